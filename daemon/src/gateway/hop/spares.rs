//! Header maps that were used, for the heads that come: a map of its own for each request and for each response would be
//! most of what they allocate. In HTTP/1 one goes round: hyper parses a request into it, the response is made in it, and hyper
//! takes it back with that.

use http::HeaderMap;

/// So many are kept of one link: about as many as there are requests under way when a link is busy.
const MOST: usize = 64;

/// Maps with more room are not kept, nor those with more in them: of one name there may be many values, for which `capacity`
/// does not say that it has room.
const LARGEST: usize = 32;

/// Empty maps with room.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Spares(Vec<HeaderMap>);

impl Spares {
    /// Takes a map that nobody needs any more. What is in it is dropped now.
    pub(in crate::gateway) fn put(&mut self, mut map: HeaderMap) {
        let is_small = map.len() <= LARGEST && (1..=LARGEST).contains(&map.capacity());
        if is_small && self.0.len() < MOST {
            map.clear();
            self.0.push(map);
        }
    }

    /// An empty map.
    pub(in crate::gateway) fn take(&mut self) -> HeaderMap {
        self.0.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HOST, HeaderValue};

    use super::*;

    #[test]
    fn maps_come_back_empty_and_with_their_room() {
        let mut spares = Spares::default();
        let mut map = HeaderMap::with_capacity(8);
        map.insert(HOST, HeaderValue::from_static("a"));
        let room = map.capacity();
        spares.put(map);
        let map = spares.take();
        assert_eq!((map.len(), map.capacity()), (0, room));
        assert_eq!(spares.take().capacity(), 0, "there was one");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut spares = Spares::default();
        spares.put(HeaderMap::with_capacity(2 * LARGEST));
        let mut many = HeaderMap::new();
        for _ in 0..=LARGEST {
            many.append(HOST, HeaderValue::from_static("a"));
        }
        spares.put(many);
        assert_eq!(spares.0.len(), 0);
        (0..2 * MOST).for_each(|_| spares.put(HeaderMap::with_capacity(1)));
        assert_eq!(spares.0.len(), MOST);
    }
}
