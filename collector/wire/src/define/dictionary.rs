//! The ids that a connection has defined.

use super::DefineKind;
use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;

/// The defined ids of one kind on one connection.
///
/// Memory is proportional to the highest id defined, which is below `limit`.
#[derive(Debug)]
pub struct Dictionary<T> {
    kind: DefineKind,
    limit: u32,
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Dictionary<T> {
    /// An empty dictionary for ids below `limit`.
    pub fn new(kind: DefineKind, limit: u32) -> Self {
        Self {
            kind,
            limit,
            slots: Vec::new(),
            len: 0,
        }
    }

    /// Defines an id.
    ///
    /// # Errors
    /// [`ErrorKind::IdBeyondLimit`], or [`ErrorKind::AlreadyDefined`].
    pub fn define(&mut self, id: u32, definition: T) -> Result<&mut T> {
        let what = self.kind.name();
        let error = |kind| Error::new(Some(FrameType::Define), 0, kind);
        if id >= self.limit {
            return Err(error(ErrorKind::IdBeyondLimit {
                what,
                id,
                limit: self.limit,
            }));
        }
        let index = id as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        match &mut self.slots[index] {
            Some(_) => Err(error(ErrorKind::AlreadyDefined { what, id })),
            free => {
                self.len += 1;
                Ok(free.insert(definition))
            }
        }
    }

    /// Releases an id and returns its definition.
    ///
    /// # Errors
    /// [`ErrorKind::Undefined`] if the id is not defined.
    pub fn release(&mut self, id: u32) -> Result<T> {
        let definition = self.slots.get_mut(id as usize).and_then(Option::take);
        let definition = definition.ok_or_else(|| self.undefined(FrameType::Define, id))?;
        self.len -= 1;
        Ok(definition)
    }

    /// The definition of an id that a frame uses.
    ///
    /// # Errors
    /// [`ErrorKind::Undefined`] if the id is not defined.
    pub fn get(&self, frame_type: FrameType, id: u32) -> Result<&T> {
        self.slots
            .get(id as usize)
            .and_then(Option::as_ref)
            .ok_or_else(|| self.undefined(frame_type, id))
    }

    /// The mutable form of [`get`](Self::get).
    pub fn get_mut(&mut self, frame_type: FrameType, id: u32) -> Result<&mut T> {
        let undefined = self.undefined(frame_type, id);
        self.slots
            .get_mut(id as usize)
            .and_then(Option::as_mut)
            .ok_or(undefined)
    }

    fn undefined(&self, frame_type: FrameType, id: u32) -> Error {
        Error::new(
            Some(frame_type),
            0,
            ErrorKind::Undefined {
                what: self.kind.name(),
                id,
            },
        )
    }

    /// Number of defined ids.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no id is defined.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The definitions, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(id, definition)| Some((id as u32, definition.as_ref()?)))
    }
}
