//! `qchat doctor`: one line for each thing that has to be right, and what to do about what is not.

use super::stop_signal;
use crate::cli::args;
use crate::cli::output::{Output, printable};
use crate::cli::settings::Settings;
use crate::peer::doctor::{Check, Doctor, Finding, Verdict};
use crate::peer::failure::{Failure, FailureKind};
use crate::seal::identity::IdentityKey;
use crate::storage::profile::{Home, ProfileError, examine};
use crate::transport::tuning::Network;
use crate::wire::ids::{DirectoryFingerprint, PeerName};

/// Checks everything, or until the user stops it.
pub(super) async fn run(args: args::Doctor, output: &Output) -> Result<(), Failure> {
    tokio::select! {
        result = check_all(args, output) => result,
        () = stop_signal() => Err(Failure::new(FailureKind::Interrupted, "stopped")),
    }
}

async fn check_all(args: args::Doctor, output: &Output) -> Result<(), Failure> {
    let server = Settings::server(args.whose.server)?;
    let home = Settings::home(args.whose.home)?;
    let user = args.whose.user.or(server.name);
    let pinned = home.pinned(&server.directory.to_string())?.or(server.fingerprint);
    let (identity, broken) = match check_profile(&home, pinned, user.as_ref(), output) {
        Ok(identity) => (identity, Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let doctor = Doctor {
        directory: &server.directory,
        pinned,
        account: user.as_ref().zip(identity.as_ref()),
        network: Network { segmentation_offload: !args.no_gso, ..Network::default() },
    };
    doctor.examine(&mut |finding| show(output, &finding)).await.and(broken)
}

/// Looks at the account's folder. Without an account there is none, which is no fault.
fn check_profile(
    home: &Home,
    pinned: Option<DirectoryFingerprint>,
    user: Option<&PeerName>,
    output: &Output,
) -> Result<Option<IdentityKey>, Failure> {
    let account = pinned.zip(user).filter(|(fingerprint, name)| home.has_profile(*fingerprint, name));
    let Some((fingerprint, name)) = account else {
        let text = match user {
            Some(name) => format!("{name} has no key for this directory in {}", home.root().display()),
            None => "no account is named".to_owned(),
        };
        let advice = "--user and --home say whose; `qchat peer` makes an account";
        show(output, &Finding::new(Check::Profile, Verdict::Warn, text).advice(advice));
        return Ok(None);
    };
    let folder = home.profile_folder(fingerprint, name);
    match examine(home, fingerprint, name) {
        Ok((identity, is_in_use)) => {
            let used = if is_in_use { "; a peer or command of this account is running" } else { "" };
            let text = format!("{} is for its owner only{used}", folder.display());
            show(output, &Finding::new(Check::Profile, Verdict::Ok, text));
            Ok(Some(identity))
        }
        Err(error) => {
            show(output, &Finding::new(Check::Profile, Verdict::Fail, error.to_string()));
            Err(failure_of(error))
        }
    }
}

fn failure_of(error: ProfileError) -> Failure {
    Failure::from(error).hint("until then every command of this account is refused")
}

fn show(output: &Output, finding: &Finding) {
    if output.is_json() {
        return output.json(finding);
    }
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    output.line(&format!("{verdict:<5} {}", printable(&finding.text)));
    if let Some(advice) = &finding.advice {
        output.line(&format!("      {}", printable(advice)));
    }
}
