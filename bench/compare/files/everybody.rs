//! All who can move a file or folder here: finds out who is installed, and starts what they need.

use std::path::Path;
use std::rc::Rc;

use super::cp::Copy;
use super::over_ssh::{OverSsh, Sshd, Tool};
use super::sendme::Sendme;
use super::side::Side;
use super::socat::{Certificate, Over, Socat};
use super::two_people::TwoPeople;
use super::unframed::{Threads, Unframed};
use super::wormhole::{Servers, Wormhole};
use crate::process::loopback::Loopback;

/// What others have with them, for all that they move; `None` where they are not here.
pub(crate) struct Everybody {
    tools: Vec<Tool>,
    sshd: Option<Sshd>,
    wormhole: Option<Servers>,
    sendme: Option<Rc<Loopback>>,
    certificate: Option<Certificate>,
    /// Who is left out, and why.
    pub(crate) absent: Vec<String>,
}

impl Everybody {
    /// Starts what lasts; folders that it needs are made below `base`.
    pub(crate) fn find(base: &Path) -> anyhow::Result<Self> {
        let mut absent = Vec::new();
        let mut is_here = |name: &str, missing: Option<String>| {
            absent.extend(missing.as_ref().map(|why| format!("{name} is left out: {why}")));
            missing.is_none()
        };
        let mut tools = vec![Tool::Scp, Tool::ScpAes, Tool::Rsync];
        tools.retain(|tool| is_here(tool.name(), tool.missing()));
        let with_wormhole = is_here("magic-wormhole", Servers::missing());
        let with_sendme = is_here("sendme", Sendme::missing());
        let with_socat = is_here("socat", Socat::missing());
        // These two would tell servers on the internet of themselves.
        let loopback = match (with_wormhole || with_sendme).then(Loopback::make) {
            Some(Ok(loopback)) => Some(Rc::new(loopback)),
            Some(Err(why)) => {
                absent.push(format!("magic-wormhole and sendme are left out: {why}"));
                None
            }
            None => None,
        };
        let mailbox = loopback.clone().filter(|_| with_wormhole);
        Ok(Self {
            sshd: if tools.is_empty() { None } else { Some(Sshd::start()?) },
            tools,
            wormhole: mailbox.map(|loopback| Servers::start(loopback, base)).transpose()?,
            sendme: loopback.filter(|_| with_sendme),
            certificate: with_socat.then(Certificate::make).transpose()?,
            absent,
        })
    }

    /// Lets everybody have a file or folder ready. The program itself is the first.
    pub(crate) fn sides(&self, base: &Path, path: &Path) -> anyhow::Result<Vec<Box<dyn Side + '_>>> {
        let mut sides: Vec<Box<dyn Side>> = vec![Box::new(TwoPeople::start(base, path)?)];
        if path.is_file() {
            for threads in Threads::ALL {
                sides.push(Box::new(Unframed::start(path, threads)?));
            }
        }
        if let Some(sshd) = &self.sshd {
            for &tool in &self.tools {
                sides.push(Box::new(OverSsh { sshd, tool, path: path.to_owned() }));
            }
        }
        if let Some(servers) = &self.wormhole {
            sides.push(Box::new(Wormhole { servers, path: path.to_owned() }));
        }
        if let Some(loopback) = &self.sendme {
            sides.push(Box::new(Sendme::start(loopback, base, path)?));
        }
        if let Some(certificate) = &self.certificate {
            for over in [Over::Tls, Over::Tcp] {
                sides.push(Box::new(Socat::start(over, certificate, path)?));
            }
        }
        sides.push(Box::new(Copy { path: path.to_owned() }));
        Ok(sides)
    }
}
