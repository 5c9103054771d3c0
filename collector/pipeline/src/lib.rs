//! The series store, the stream hand-overs and the ledger.
