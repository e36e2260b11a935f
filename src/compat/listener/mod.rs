//! The doors: sockets and tasks. What comes is translated by `dialect`, and done by residents of the gateway.

mod json;
mod s2;
mod s3;
mod s4;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::gateway::Gateway;
use super::settings::{Dialect, DoorAt};
use crate::peer::failure::{Failure, FailureKind};

/// All doors.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    doors: Vec<Listener>,
}

#[derive(Debug)]
enum Listener {
    Json(json::Door),
    S2(s2::Door),
    S3(s3::Door),
    S4(s4::Door),
}

impl Listeners {
    /// Binds all doors, or says which one cannot be had.
    pub(super) async fn bind(at: &[DoorAt]) -> Result<Self, Failure> {
        let mut doors = Vec::with_capacity(at.len());
        for DoorAt { dialect, address } in at.iter().copied() {
            doors.push(match dialect {
                Dialect::Json => Listener::Json(json::Door::bind(address)?),
                Dialect::S2 => Listener::S2(s2::Door::bind(address)?),
                Dialect::S3 => Listener::S3(s3::Door::bind(address)?),
                Dialect::S4 => Listener::S4(s4::Door::bind(address).await?),
            });
        }
        Ok(Self { doors })
    }

    /// Where each is.
    pub(super) fn addresses(&self) -> Vec<(Dialect, SocketAddr)> {
        self.doors.iter().map(Listener::address).collect()
    }

    /// Serves all of them for as long as it is awaited.
    pub(super) async fn run(self, gateway: &Arc<Gateway>) {
        let mut serving = JoinSet::new();
        for door in self.doors {
            let gateway = gateway.clone();
            match door {
                Listener::Json(door) => serving.spawn(door.serve(gateway)),
                Listener::S2(door) => serving.spawn(door.serve(gateway)),
                Listener::S3(door) => serving.spawn(door.serve(gateway)),
                Listener::S4(door) => serving.spawn(door.serve(gateway)),
            };
        }
        while let Some(ended) = serving.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a door for older programs broke");
            }
        }
        // When all have broken, the directory goes on.
        std::future::pending().await
    }
}

impl Listener {
    fn address(&self) -> (Dialect, SocketAddr) {
        match self {
            Self::Json(door) => (Dialect::Json, door.address()),
            Self::S2(door) => (Dialect::S2, door.address()),
            Self::S3(door) => (Dialect::S3, door.address()),
            Self::S4(door) => (Dialect::S4, door.address()),
        }
    }
}

/// A door that cannot be had.
fn taken(dialect: Dialect, address: SocketAddr, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Other, format!("{dialect} cannot listen on {address}: {error}"))
        .hint("name another address: --compat DIALECT=ADDR:PORT")
}
