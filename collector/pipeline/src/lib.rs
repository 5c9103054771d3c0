//! Series, raw events and the ledger, and their exchange with other threads.
//!
//! One thread, the ingest thread, owns the [`Core`]; receivers run on it and call it synchronously with whole requests. Nothing
//! between a socket's bytes and a cell awaits, locks or sends. Other threads do not access the core: they submit [`Job`]s through a
//! [`Handle`], which run in steps between requests and return copies through a [`channel`].
//!
//! | task | call |
//! |---|---|
//! | open and end a source | [`Core::open_source`], [`Core::end_source`] |
//! | find a series, or define it on a miss | [`Core::find`], [`Core::find_batch`] (many at once), [`Core::define`] |
//! | write a point | `set_*` (cumulative and gauges replace), `add_*` (deltas add) |
//! | remove a series | [`Core::expire`]; [`Core::sweep`] expires idle and ended ones |
//! | publish raw events | [`Core::publish`], [`Core::publish_gap`] |
//! | read from another thread | [`Handle::call`], [`Handle::snapshot`], [`Handle::subscribe`] |
//! | account for every item | [`Core::ledger`], [`ledger`] |
//! | reserve memory of data in flight | [`Core::budget`], [`budget`] |
//!
//! | room | content |
//! |---|---|
//! | `series` | slots, cells, the index of fingerprints, admission |
//! | `classic` | exponential histograms at the bounds of pages |
//! | `exposition` | families, and the identities of series on a page |
//! | `events` | schemas, replay, subscribers |
//! | `ledger`, `requests` | the accounts |
//! | `exchange` | channel, jobs, snapshots |
//!
//! Rooms do not own each other: where an operation uses two, [`Core`] passes one to the other as an argument.
#![forbid(unsafe_code)]

pub mod budget;
pub mod classic;
mod core;
mod events;
pub mod exchange;
mod exposition;
mod hash;
pub mod ledger;
mod reasons;
pub mod requests;
mod row;
mod series;
mod sync;

pub use core::{Core, Warnings};
pub use events::NodeStart;
pub use events::request::{Interest, ResumePoint, StreamItem, StreamRequest, Subscription};
pub use exchange::channel;
pub use exchange::handle::{Busy, Handle, inbox};
pub use exchange::job::{Inbox, Job, Progress, run_jobs, serve};
pub use exchange::snapshot::{Snapshot, SnapshotRequest};
pub use ledger::{DropReason, HiddenReason, Hop, Ledger, RelayTerm, Signal, SourceAccount, Written};
pub use requests::{Endpoint, RefusedReason, RequestEnd};
pub use row::{Row, RowValue};
pub use series::admission::NotAdmitted;
pub use series::explicit::Explicit;
pub use series::lookup::{FoundSeries, LOOKUP_BATCH};
pub use series::meta::{MetricStream, SeriesMeta};
pub use series::metric::{ClassicBounds, Family, Metric};
pub use series::points::{Buckets, ExponentialPoint, HistogramPoint, SummaryPoint};
pub use series::slot::SeriesRef;
pub use series::times::Times;
pub use series::values::{ExponentialCell, HistogramCell, SummaryCell, total};
