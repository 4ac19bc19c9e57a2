//! Where the streams are kept: by an ID that is a place and a serial number, so that finding one is looking at its place.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::StreamId;
use super::entry::Entry;

/// Bits of an ID that are the place; the others are the serial number, which decides the order.
const PLACE_BITS: u32 = 24;
/// Most streams held at a time.
pub(super) const MAX_PLACES: usize = 1 << PLACE_BITS;

/// The streams of a table.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: Vec<Option<Box<Entry>>>,
    free: Vec<u32>,
    next: u64,
    count: usize,
}

const fn place(id: StreamId) -> usize {
    (id.0 as usize) & (MAX_PLACES - 1)
}

impl Slots {
    /// Keeps what `make` makes of its new ID. The caller has checked that there is a place.
    pub(super) fn insert(&mut self, make: impl FnOnce(StreamId) -> Entry) -> StreamId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        let id = StreamId(self.next << PLACE_BITS | u64::from(place));
        self.next += 1;
        self.count += 1;
        self.places[place as usize] = Some(Box::new(make(id)));
        id
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&Entry> {
        self.places.get(place(id))?.as_deref().filter(|entry| entry.id == id)
    }

    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut Entry> {
        self.places
            .get_mut(place(id))?
            .as_deref_mut()
            .filter(|entry| entry.id == id)
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<Box<Entry>> {
        let slot = self.places.get_mut(place(id))?;
        let entry = slot.take_if(|entry| entry.id == id)?;
        self.free.push(place(id) as u32);
        self.count -= 1;
        if self.count == 0 {
            (self.places, self.free) = (Vec::new(), Vec::new());
        }
        Some(entry)
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// All IDs, in the order the streams were opened.
    pub(super) fn ids(&self) -> Vec<StreamId> {
        let mut ids: Vec<StreamId> = self.places.iter().flatten().map(|entry| entry.id).collect();
        ids.sort_unstable();
        ids
    }
}
