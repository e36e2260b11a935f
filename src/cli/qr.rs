//! QR codes on a terminal, two modules to a character, for whoever types on a phone.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code of a text, dark on light whatever the terminal's colours; `None` when the text is too long for one.
pub(super) fn code(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Some(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_fits_a_terminal() {
        let link = format!("qchat://directory.example.org/#{}.{}", "ab".repeat(32), "a".repeat(26));
        let picture = code(&link).unwrap();
        assert!(picture.lines().all(|line| line.chars().count() <= 80), "{picture}");
        assert!(picture.lines().count() <= 30, "{picture}");
        assert!(code(&"x".repeat(10_000)).is_none());
    }
}
