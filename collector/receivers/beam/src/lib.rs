//! Receives relays of BEAM nodes over the local socket.
