//! Short texts as QR codes of half blocks, for a telephone to read from the terminal. The only file that names qrcode.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The code as lines of half blocks, with the quiet zone that readers need; `None` for a text that is too long.
///
/// Light modules are drawn, because most terminals are dark; readers take the inverse on light ones as well.
pub(super) fn lines(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safety_number_fits_the_smallest_terminal() {
        let code = lines(&"01234".repeat(12)).unwrap();
        assert!(code.lines().count() <= 20, "{code}");
        assert!(code.lines().all(|line| line.chars().count() <= 40), "{code}");
        assert!(code.chars().all(|c| " \n\u{2580}\u{2584}\u{2588}".contains(c)), "{code}");
    }

    #[test]
    fn a_text_that_is_too_long_has_none() {
        assert_eq!(lines(&"x".repeat(10_000)), None);
    }
}
