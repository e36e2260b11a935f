//! Texts with bounds: each kind is a type of its own, which cannot exist unless it is valid.

/// Makes a text of its own kind: what is parsed is kept, and decoding parses.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $error:ident, $text:ident => $checked:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes a text that is in the bounds of its kind.
            ///
            /// # Errors
            /// The error says what it must be like.
            pub fn parse($text: &str) -> Result<Self, $error> {
                $checked.map(Self)
            }

            /// The text as it was written: remove control characters before printing.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(part: $name) -> Self {
                part.0
            }
        }
    };
}
