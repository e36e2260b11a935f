//! Profiles, which come signed by way of anybody: the bytes that were signed, and the picture in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::wire::codec;
use qchat_fuzz::wire::limits::{PICTURE_BYTES_MAX, PROFILE_FIELDS_MAX};
use qchat_fuzz::wire::profile::{Picture, Profile};

fuzz_target!(|document: &[u8]| {
    if let Ok(profile) = codec::decode::<Profile>(document) {
        assert!(profile.fields.iter().count() <= PROFILE_FIELDS_MAX);
        assert!(profile.picture.as_ref().is_none_or(|picture| picture.bytes().len() <= PICTURE_BYTES_MAX));
        let again = codec::encode(&profile).expect("what came in a frame fits one");
        assert_eq!(codec::decode::<Profile>(&again).expect("our own encoding"), profile);
    }
    if let Ok(picture) = Picture::parse(document.to_vec()) {
        assert_eq!(picture.bytes(), document);
    }
});
