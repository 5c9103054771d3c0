//! The texts of `le`.

use dichroic_model::labels::canonical_float;
use std::sync::Arc;

/// `le="0.005"} ` of each bound and of +Inf.
pub(super) type Les = Arc<[Box<[u8]>]>;

/// The `le` labels of lists of bounds, rendered once per page.
#[derive(Default)]
pub(super) struct LeCache(Vec<(Arc<[f64]>, Les)>);

impl LeCache {
    /// Maximum of cached lists; a page with more renders some lists again.
    const CAPACITY: usize = 64;

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The labels of a list. The cache keeps the list alive, so that its address is not reused.
    pub(super) fn les(&mut self, bounds: &Arc<[f64]>) -> Les {
        if let Some((_, les)) = self
            .0
            .iter()
            .rev()
            .find(|(cached, _)| Arc::ptr_eq(cached, bounds))
        {
            return les.clone();
        }
        let all = bounds.iter().copied().chain([f64::INFINITY]);
        let les: Les = all
            .map(|b| format!("le=\"{}\"}} ", canonical_float(b)).into_bytes().into())
            .collect();
        if self.0.len() == Self::CAPACITY {
            self.0.remove(0);
        }
        self.0.push((bounds.clone(), les.clone()));
        les
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rendered_once() {
        let mut cache = LeCache::default();
        let bounds: Arc<[f64]> = [0.5, 1.0].into();
        let les = cache.les(&bounds);
        let texts: Vec<_> = les.iter().map(|le| std::str::from_utf8(le).unwrap()).collect();
        assert_eq!(texts, ["le=\"0.5\"} ", "le=\"1.0\"} ", "le=\"+Inf\"} "]);
        assert!(Arc::ptr_eq(&les, &cache.les(&bounds)));
    }
}
