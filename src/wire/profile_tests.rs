//! Nothing that is over a bound, out of order or of another kind is decoded as a profile, and no bytes make decoding panic.

use super::*;
use crate::wire::codec;
use crate::wire::limits::{FRAME_BYTES_MAX, PROFILE_BYTES_MAX, PROFILE_VERSION_MAX};
use crate::wire::refusal::Refusal;

/// Numbers that look random and are the same in every run (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

fn label(number: usize) -> FieldLabel {
    // Letters of four bytes, the longest that there are.
    let letters: String = std::iter::repeat_n('\u{20000}', FIELD_LABEL_CHARS_MAX - 2).collect();
    FieldLabel::parse(&format!("{letters}{number:02}")).unwrap()
}

/// The profile that takes the most bytes.
fn largest() -> Profile {
    let name = PeerName::parse(&"a".repeat(32)).unwrap();
    let mut profile = Profile { version: PROFILE_VERSION_MAX, ..Profile::empty(name, PeerKey::from_bytes([1; 32])) };
    profile.display_name = Some(DisplayName::parse(&"\u{1f600}".repeat(DISPLAY_NAME_CHARS_MAX)).unwrap());
    profile.info = Some(ProfileInfo::parse(&"i".repeat(PROFILE_INFO_BYTES_MAX)).unwrap());
    for number in 0..PROFILE_FIELDS_MAX {
        let value = FieldValue::parse(&"v".repeat(FIELD_VALUE_BYTES_MAX)).unwrap();
        profile.fields.set(label(number), value).unwrap();
    }
    profile.picture = Some(Picture::parse(png(PICTURE_BYTES_MAX)).unwrap());
    profile
}

fn png(bytes: usize) -> Vec<u8> {
    let mut picture = PNG_SIGNATURE.to_vec();
    picture.resize(bytes, 7);
    picture
}

fn decoded<T: serde::de::DeserializeOwned>(value: &impl Serialize) -> Option<T> {
    codec::decode(&codec::encode(value).unwrap()).ok()
}

#[test]
fn the_largest_profile_fits_its_bound_and_a_frame() {
    let document = codec::encode(&largest()).unwrap();
    assert!(document.len() <= PROFILE_BYTES_MAX, "{} bytes", document.len());
    assert_eq!(codec::decode::<Profile>(&document).unwrap(), largest());
    let signed = SignedProfile { document: vec![0; PROFILE_BYTES_MAX], signature: Signature::from_bytes([0; 64]) };
    let answer: Result<ProfileReply, Refusal> = Ok(ProfileReply::New(Box::new(signed)));
    assert!(codec::encode(&answer).unwrap().len() < FRAME_BYTES_MAX);
}

#[test]
fn texts_have_bounds_that_decoding_checks() {
    #[track_caller]
    fn check<T: serde::de::DeserializeOwned>(text: &str, is_good: bool) {
        assert_eq!(decoded::<T>(&text).is_some(), is_good, "{text:?}");
    }
    for good in ["Bob the Builder", "\u{e9}", &"x".repeat(64)] {
        check::<DisplayName>(good, true);
    }
    for bad in ["", " ", "two\nlines", "a\u{202e}b", "a\u{200b}b", "\u{1b}[2J", &"x".repeat(65)] {
        check::<DisplayName>(bad, false);
    }
    check::<ProfileInfo>(&"x".repeat(1024), true);
    check::<ProfileInfo>("", false);
    check::<ProfileInfo>(&"x".repeat(1025), false);
    for good in ["town", "e-mail", "\u{fc}ber.mich_2", &"x".repeat(32)] {
        check::<FieldLabel>(good, true);
    }
    for bad in ["", "two words", "name", "Info", "PICTURE", "a:b", "a\nb", "\u{202e}", &"x".repeat(33)] {
        check::<FieldLabel>(bad, false);
    }
    check::<FieldValue>(&"x".repeat(512), true);
    check::<FieldValue>("", false);
    check::<FieldValue>(&"x".repeat(513), false);
    assert_eq!(FieldLabel::parse("TowN").unwrap().as_str(), "town");
}

#[test]
fn pictures_are_small_pngs_and_jpegs() {
    let kind = |bytes: &[u8]| decoded::<Picture>(&serde_bytes::Bytes::new(bytes)).map(|picture| picture.kind());
    assert_eq!(kind(&png(PICTURE_BYTES_MAX)), Some(PictureKind::Png));
    assert_eq!(kind(b"\xff\xd8\xff\xe0 and more"), Some(PictureKind::Jpeg));
    for bad in [&[][..], b"\x89PNG", b"GIF89a", b"<svg/>", b"\xff\xd8", &png(PICTURE_BYTES_MAX + 1)] {
        assert_eq!(kind(bad), None, "{} bytes", bad.len());
    }
}

#[test]
fn fields_are_sixteen_at_most_in_order_and_each_once() {
    let value = FieldValue::parse("v").unwrap();
    let fields = |numbers: &[usize]| numbers.iter().map(|number| (label(*number), value.clone())).collect::<Vec<_>>();
    let good = |numbers: &[usize]| decoded::<Fields>(&fields(numbers)).is_some();
    let all: Vec<usize> = (0..17).collect();
    assert!(good(&[]) && good(&[3]) && good(&[1, 2]) && good(&all[..16]));
    assert!(!good(&[2, 1]) && !good(&[1, 1]) && !good(&all));
}

#[test]
fn a_field_is_set_replaced_and_removed_and_there_is_no_seventeenth() {
    let value = |text| FieldValue::parse(text).unwrap();
    let mut fields = Fields::default();
    for number in [5, 1, 3] {
        fields.set(label(number), value("old")).unwrap();
    }
    fields.set(label(3), value("new")).unwrap();
    let said: Vec<_> = fields.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(said, ["old", "new", "old"]);
    assert!(fields.remove(&label(3)) && !fields.remove(&label(3)));
    for number in (0..20).filter(|number| ![1, 5].contains(number)).take(14) {
        fields.set(label(number), value("more")).unwrap();
    }
    assert_eq!(fields.set(label(99), value("too many")), Err(PartError::TooManyFields(17)));
    fields.set(label(1), value("still changes")).unwrap();
    assert_eq!(decoded::<Fields>(&fields), Some(fields));
}

/// Documents that were cut, lengthened or damaged in up to eight places, and bytes that never were one: whatever is
/// decoded all the same is within every bound, and says the same when it is encoded again.
#[test]
fn no_bytes_become_a_profile_that_is_over_a_bound() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let small = Profile { picture: None, ..largest() };
    let documents = [codec::encode(&small).unwrap(), codec::encode(&largest()).unwrap()];
    let (mut read, mut refused) = (0, 0);
    for round in 0..4_000 {
        let mut bytes = documents[usize::from(round % 8 == 0)].clone();
        match dice.below(4) {
            0 => bytes.truncate(dice.below(bytes.len())),
            1 => bytes.extend((0..1 + dice.below(40)).map(|_| 0)),
            2 => bytes = (0..dice.below(300)).map(|_| dice.byte()).collect(),
            _ => {}
        }
        for _ in 0..dice.below(9) {
            let length = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(dice.below(length)) {
                *byte = dice.byte();
            }
        }
        match codec::decode::<Profile>(&bytes) {
            Ok(profile) => {
                read += 1;
                assert!(codec::encode(&profile).unwrap().len() <= PROFILE_BYTES_MAX);
                assert_eq!(decoded::<Profile>(&profile), Some(profile));
            }
            Err(_) => refused += 1,
        }
    }
    assert!(read > 100 && refused > 1_000, "{read} read, {refused} refused: the dice must reach both");
}
