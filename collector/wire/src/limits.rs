//! All limits of the format, with their units. `SPEC.md` section 6 defines the consequence of exceeding one. The codec enforces the
//! limits of one frame, the connection those that need a clock or a count.

use std::time::Duration;

/// Bytes of a frame's header: `u32` length of the body, `u8` type.
pub const HEADER_BYTES: usize = 5;
/// Largest body before HELLO is accepted, in bytes.
pub const BODY_BYTES_BEFORE_HELLO: u32 = 16 * 1024;
/// Largest body for a receiver whose HELLO has no `max_frame`, in bytes.
pub const BODY_BYTES_DEFAULT: u32 = 256 * 1024;
/// Largest body that any receiver may announce, in bytes.
pub const BODY_BYTES_MAX: u32 = 1024 * 1024;

/// Time from accepting a connection to a complete HELLO.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time from the first byte of a frame to its last.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections before the handshake.
pub const PENDING_HANDSHAKES: usize = 32;
/// Connected relays.
pub const RELAYS: usize = 64;
/// Connected subscribers.
pub const SUBSCRIBERS: usize = 256;

/// Values of one frame, counting every element of every list and map.
pub const VALUES_PER_FRAME: usize = 65_536;
/// Nesting of lists and maps; the outermost is level 1.
pub const VALUE_DEPTH: usize = 8;
/// Bytes of a string, of the kept part of a cut string, or of a byte string.
pub const STRING_BYTES: usize = 65_535;
/// Bytes of a map's key; at least 1.
pub const KEY_BYTES: usize = 255;
/// Elements of a list or entries of a map.
pub const ELEMENTS: usize = 65_535;

/// Series ids per relay, unless the plan has another limit.
pub const SERIES_DEFAULT: u32 = 10_000;
/// Ids of series per relay that a plan may allow.
pub const SERIES_MAX: u32 = 1_000_000;
/// Ids of schemas per connection.
pub const SCHEMAS: u32 = 4_096;
/// Ids of sources per connection.
pub const SOURCES: u32 = 1_024;
/// Events per second of one relay, unless the plan has another limit; log records have an eighth of it in addition.
pub const EVENTS_PER_SECOND_DEFAULT: u32 = 100_000;
/// Labels of a series.
pub const LABELS: usize = 32;
/// Bytes of a label value; the sender cuts longer ones.
pub const LABEL_BYTES: usize = 256;

/// Label bytes of a relay's series without rows, per id that its plan allows. Further series are defined without labels; their rows
/// are dropped and counted as `memory_limit`.
pub const PENDING_LABEL_BYTES_PER_ID: usize = 1_024;
/// Bytes of the help text of an app metric; the rest is cut.
pub const APP_METRIC_HELP_BYTES: usize = 1_024;
/// Bytes of the unit of an app metric; the rest is cut.
pub const APP_METRIC_UNIT_BYTES: usize = 64;
/// Terms of each kind of a relay's account that are kept separately across connections. Further terms are combined.
pub const ACCOUNT_TERMS: usize = 4_096;
/// Event schemas of one relay at a time; further ones are not requested.
pub const SCHEMAS_PER_RELAY: usize = 512;
/// Shortest time between two plans caused by changed variables of a relay.
pub const REPLAN_INTERVAL: Duration = Duration::from_secs(1);

/// Non-empty buckets of one histogram row.
pub const BUCKETS_PER_ROW: usize = 1_024;

/// Rows of an EVENTS frame; at least 1.
pub const EVENT_ROWS: usize = 4_096;
/// Columns of an EVENTS frame, including the time; at least 1.
pub const EVENT_COLUMNS: usize = 64;
/// Strings in the table of an EVENTS frame.
pub const EVENT_STRINGS: usize = 32_767;
/// Values in the table of an EVENTS frame.
pub const EVENT_VALUES: usize = 32_767;

/// Entries of the pool of a MIXED frame, besides null.
pub const POOL_ENTRIES: usize = 65_535;

/// Bytes of the message of a GOODBYE.
pub const GOODBYE_MESSAGE_BYTES: usize = 1_024;

/// Entries of a plan, aggregates and streams together.
pub const PLAN_ENTRIES: usize = 2_000;
/// Steps of a path.
pub const PATH_STEPS: usize = 8;
/// Names in one carry entry.
pub const CARRIED: usize = 64;
/// Bounds of a `buckets` aggregate.
pub const BOUNDS: usize = 160;
/// Lowest and highest scale of an `exponential` aggregate.
pub const SCALE: std::ops::RangeInclusive<i64> = -4..=4;
/// Shortest idle time before a series is evicted, in seconds: exporters need this time to show the old incarnation.
pub const EXPIRE_S_MIN: u32 = 300;
/// Aggregate keys below this are terms of the relay's account.
pub const RESERVED_KEYS: u64 = 16;

/// Patterns of a subscription.
pub const PATTERNS: usize = 64;
/// Bytes of a pattern or of a glob in `where`.
pub const PATTERN_BYTES: usize = 256;
/// Keys of `where`.
pub const WHERE_KEYS: usize = 16;
/// Rows that the collector buffers for a subscription.
pub const SUBSCRIBE_BUFFER_ROWS: std::ops::RangeInclusive<i64> = 64..=1_048_576;
/// Longest time that a subscription may let rows wait for a fuller frame, in milliseconds.
pub const SUBSCRIBE_WITHIN_MS_MAX: u32 = 10_000;
/// Frames per second from a subscriber after its HELLO.
pub const SUBSCRIBER_FRAMES_PER_S: u32 = 10;
