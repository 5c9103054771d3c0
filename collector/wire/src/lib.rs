//! The framing that relays and subscribers speak: a sans-I/O codec with golden frames.
