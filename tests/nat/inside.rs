//! Runs a test in namespaces of its own: the test binary starts itself again in there.

use crate::namespaces::{command_inside, what_is_missing};

/// Set in the inner process.
const INSIDE: &str = "NAT_LAB_INSIDE";

/// Tests whose bodies run in namespaces of their own.
macro_rules! lab_tests {
    ($($(#[$attribute:meta])* $name:ident => $body:expr;)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                $crate::inside::run(concat!(module_path!(), "::", stringify!($name)), || $body);
            }
        )*
    };
}

/// Runs the body of the test with this path in namespaces of its own.
pub(crate) fn run(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Some(missing) = what_is_missing() {
        panic!("the NAT lab cannot be made: {missing}");
    }
    let (_crate, test) = test.split_once("::").expect("a test is in a module");
    let mut inner = command_inside(&std::env::current_exe().expect("the test binary has a path"));
    inner.args([test, "--exact", "--nocapture", "--include-ignored"]).env(INSIDE, "1");
    let status = inner.status().expect("unshare starts, as it just did");
    assert!(status.success(), "the test failed in its namespaces: see above");
}
