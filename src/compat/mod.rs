//! FACE: the vocabularies of the older systems, for their programs and for people with `nc`. Each dialect only translates;
//! the gateway holds the names of those who speak them, each as a peer of its own that logs in like anybody.
//!
//! ```text
//! old program --datagram, frame--> listener/ --bytes--> dialect/ --request--> listener/ --command--> resident.rs --QUIC--> directory
//!                                     ^ door.rs: who may speak, how much                     ^ gateway.rs: who is here
//! ```

pub mod dialect;
pub mod gateway;
pub mod settings;

mod courtesy;
mod credentials;
mod door;
mod files;
mod listener;
mod names;
mod ports;
pub mod python_json;
mod records;
mod resident;
pub mod strict_json;
mod tries;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;

use gateway::{Accounts, Gateway, Home};
use listener::Listeners;
use settings::{CompatSettings, Dialect};

use crate::peer::failure::Failure;

/// The doors for older programs, bound and not yet open.
#[derive(Debug)]
pub struct Compat {
    gateway: Arc<Gateway>,
    listeners: Listeners,
}

impl Compat {
    /// Binds every door and opens the gateway's records, of settings that were checked. Needs a tokio runtime.
    ///
    /// # Errors
    /// A [`Failure`] that names the door, the file or the line that is wrong.
    pub async fn bind(settings: CompatSettings, home: Home, accounts: Arc<dyn Accounts>) -> Result<Self, Failure> {
        let listeners = Listeners::bind(&settings.doors).await?;
        let gateway = Arc::new(Gateway::open(settings, home, accounts).await?);
        Ok(Self { gateway, listeners })
    }

    /// Where each door is.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Dialect, SocketAddr)> {
        self.listeners.addresses()
    }

    /// Serves until `stop` is done; then everybody leaves the directory in good order.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { gateway, listeners } = self;
        tokio::select! {
            () = gateway.keep() => {},
            () = listeners.run(&gateway) => {},
            () = courtesy::keep(&gateway) => {},
            () = stop => {},
        }
        gateway.close().await;
    }
}
