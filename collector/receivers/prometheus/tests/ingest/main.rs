//! Pages into the store: families to points, replay, expiry, and the account.

#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod kept;
mod limits;
mod points;
mod replay;
