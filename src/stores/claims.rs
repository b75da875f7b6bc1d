// SPDX-License-Identifier: GPL-2.0-or-later
//! Who has which image: none is behind two logical units, however its path is spelled and whatever it is opened for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::identity::ImagePlace;

/// See the module. All handles are of one list.
#[derive(Clone, Debug, Default)]
pub struct ImageClaims(Arc<Mutex<BTreeMap<ImagePlace, String>>>);

/// An image is somebody's until this is dropped.
#[derive(Debug)]
pub struct ImageClaim {
    claims: ImageClaims,
    places: Vec<ImagePlace>,
}

impl ImageClaims {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<ImagePlace, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims what is at a place, or will be, for somebody. The error says whose it is.
    pub fn claim(&self, place: ImagePlace, who: &str) -> Result<ImageClaim, String> {
        let mut claim = ImageClaim { claims: self.clone(), places: Vec::new() };
        claim.extend(place, who).map(|()| claim)
    }
}

impl ImageClaim {
    /// Claims another place, too: that of an image that has been made since.
    pub fn extend(&mut self, place: ImagePlace, who: &str) -> Result<(), String> {
        if self.places.contains(&place) {
            return Ok(());
        }
        let mut claims = self.claims.locked();
        if let Some(other) = claims.get(&place) {
            return Err(other.clone());
        }
        claims.insert(place.clone(), who.to_owned());
        self.places.push(place);
        Ok(())
    }
}

impl Drop for ImageClaim {
    fn drop(&mut self) {
        let mut claims = self.claims.locked();
        self.places.iter().for_each(|place| _ = claims.remove(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_one_units_however_it_is_spelled() {
        let root = std::env::temp_dir().join(format!("ptgt-claims-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let (image, later) = (root.join("image"), root.join("later"));
        std::fs::write(&image, [0; 512]).unwrap();
        std::os::unix::fs::symlink(&image, root.join("link")).unwrap();
        let claims = ImageClaims::default();
        let of = |path: &std::path::Path, who: &str| claims.claim(ImagePlace::of(path), who);
        let claim = of(&image, "a").unwrap();
        for again in [&image, &root.join("link"), &root.join("../").join(&root).join("image")] {
            assert_eq!(of(again, "b").unwrap_err(), "a");
        }
        drop(claim);
        drop(of(&root.join("link"), "b").unwrap());
        // One that is made after it was claimed.
        let mut claim = of(&later, "a").unwrap();
        assert!(of(&later, "b").is_err());
        std::fs::write(&later, [0; 512]).unwrap();
        claim.extend(ImagePlace::of(&later), "a").unwrap();
        assert!(of(&later, "b").is_err());
        drop(claim);
        assert_eq!(claims.locked().len(), 0);
        std::fs::remove_dir_all(root).unwrap();
    }
}
