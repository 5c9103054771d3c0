//! Every limit of the format, by name and unit. `SPEC.md` section 6 says what happens beyond each; the codec
//! enforces those of one frame, the connection those that need a clock or a count of connections.

use std::time::Duration;

/// Bytes of a frame's header: `u32` length of the body, `u8` type.
pub const HEADER_BYTES: usize = 5;
/// Largest body before the HELLO of the peer is answered, in bytes.
pub const BODY_BYTES_BEFORE_HELLO: u32 = 16 * 1024;
/// Largest body of a receiver that says nothing else in its HELLO (`max_frame`), in bytes.
pub const BODY_BYTES_DEFAULT: u32 = 256 * 1024;
/// Largest body that any receiver may announce, in bytes.
pub const BODY_BYTES_MAX: u32 = 1024 * 1024;

/// Time from accepting a connection to a full HELLO.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time from the first byte of a frame to its last.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that have not yet sent a HELLO.
pub const PENDING_HANDSHAKES: usize = 32;
/// Connected relays.
pub const RELAYS: usize = 64;
/// Connected subscribers.
pub const SUBSCRIBERS: usize = 256;

/// Values of one frame, counting every element of every list and map.
pub const VALUES_PER_FRAME: usize = 65_536;
/// Lists and maps within one another: a list inside nothing is at depth 1.
pub const VALUE_DEPTH: usize = 8;
/// Bytes of a string, of the kept part of a cut string, or of a byte string.
pub const STRING_BYTES: usize = 65_535;
/// Bytes of a map's key; at least 1.
pub const KEY_BYTES: usize = 255;
/// Elements of a list or entries of a map.
pub const ELEMENTS: usize = 65_535;

/// Ids of series per relay, when the plan says nothing else.
pub const SERIES_DEFAULT: u32 = 10_000;
/// Ids of series per relay that a plan may allow.
pub const SERIES_MAX: u32 = 1_000_000;
/// Ids of schemas per connection.
pub const SCHEMAS: u32 = 4_096;
/// Ids of sources per connection.
pub const SOURCES: u32 = 1_024;
/// Labels of a series.
pub const LABELS: usize = 32;
/// Bytes of a label's value; longer ones are cut by the sender.
pub const LABEL_BYTES: usize = 256;

/// Bytes of labels that a relay's series without a row may hold, for each id that its plan allows. What is beyond it is defined without
/// its labels: its rows are dropped and counted as `memory_limit`.
pub const PENDING_LABEL_BYTES_PER_ID: usize = 1_024;
/// Bytes of the help text of a metric that an application asked for itself; the rest is cut.
pub const APP_METRIC_HELP_BYTES: usize = 1_024;
/// Bytes of the unit of such a metric; the rest is cut.
pub const APP_METRIC_UNIT_BYTES: usize = 64;
/// Terms of each kind of a relay's account that are told apart from one connection to the next. Those beyond it are one term.
pub const ACCOUNT_TERMS: usize = 4_096;
/// Event schemas that one relay may have at a time; those beyond it are not asked for.
pub const SCHEMAS_PER_RELAY: usize = 512;
/// Least time between two plans that a relay's own variables cause.
pub const REPLAN_INTERVAL: Duration = Duration::from_secs(1);

/// Non-empty buckets of one histogram row.
pub const BUCKETS_PER_ROW: usize = 1_024;

/// Rows of an EVENTS frame; at least 1.
pub const EVENT_ROWS: usize = 4_096;
/// Columns of an EVENTS frame, the time among them; at least 1.
pub const EVENT_COLUMNS: usize = 64;
/// Strings in the table of an EVENTS frame.
pub const EVENT_STRINGS: usize = 32_767;
/// Values in the table of an EVENTS frame.
pub const EVENT_VALUES: usize = 32_767;

/// Bytes of the words of a GOODBYE.
pub const GOODBYE_MESSAGE_BYTES: usize = 1_024;

/// Entries of a plan, aggregates and streams together.
pub const PLAN_ENTRIES: usize = 2_000;
/// Steps of a path.
pub const PATH_STEPS: usize = 8;
/// Names that one entry may carry.
pub const CARRIED: usize = 64;
/// Bounds of a `buckets` aggregate.
pub const BOUNDS: usize = 160;
/// Lowest and highest scale of an `exponential` aggregate.
pub const SCALE: std::ops::RangeInclusive<i64> = -4..=4;
/// Shortest idle time before a series may be evicted, in seconds: exporters need it to show the old incarnation.
pub const EXPIRE_S_MIN: u32 = 300;
/// Aggregate keys below this are the relay's own account.
pub const RESERVED_KEYS: u64 = 16;

/// Patterns of a subscription.
pub const PATTERNS: usize = 64;
/// Bytes of a pattern or of a glob in `where`.
pub const PATTERN_BYTES: usize = 256;
/// Keys of `where`.
pub const WHERE_KEYS: usize = 16;
/// Rows a subscription may ask the collector to hold for it.
pub const SUBSCRIBE_BUFFER_ROWS: std::ops::RangeInclusive<i64> = 64..=1_048_576;
/// Frames a second that a subscriber may send after its HELLO.
pub const SUBSCRIBER_FRAMES_PER_S: u32 = 10;
