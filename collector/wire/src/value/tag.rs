//! The tags of values.

pub(super) const NULL: u8 = 0;
pub(super) const FALSE: u8 = 1;
pub(super) const TRUE: u8 = 2;
pub(super) const INT: u8 = 3;
pub(super) const FLOAT: u8 = 4;
pub(super) const STR: u8 = 5;
pub(super) const CUT: u8 = 6;
pub(super) const BYTES: u8 = 7;
pub(super) const LIST: u8 = 8;
pub(super) const MAP: u8 = 9;
