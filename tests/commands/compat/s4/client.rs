//! A program of the older system, as far as its bytes go: requests on connections of their own, and a listener.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::program::DEADLINE;

/// Where frames are taken: the message center, or a port that stands for somebody.
pub(in crate::compat) struct Center(pub(in crate::compat) SocketAddr);

/// A client that is logged in and listens.
pub(in crate::compat) struct Client {
    center: SocketAddr,
    token: String,
    pushes: Receiver<String>,
    listener: Listener,
}

/// The client's own port.
pub(in crate::compat) struct Listener {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Center {
    /// A connection that comes from this address of the machine.
    pub(in crate::compat) fn connect_from(&self, ip: [u8; 4]) -> TcpStream {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::new(Ipv4Addr::from(ip).into(), 0)).expect("an address of this machine");
        connect(&socket, &self.0).expect("somebody listens");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        stream
    }

    /// Leaves a frame there, and waits until that is done.
    pub(in crate::compat) fn say_from(&self, ip: [u8; 4], payload: &str) {
        let mut stream = self.connect_from(ip);
        frame(&mut stream, payload);
        assert_eq!(frame_of(&mut stream), None);
    }

    pub(in crate::compat) fn log_in(&self, name: &str, password: &str) -> Client {
        self.log_in_from([127, 0, 0, 1], name, password)
    }

    pub(in crate::compat) fn log_in_from(&self, ip: [u8; 4], name: &str, password: &str) -> Client {
        self.log_in_with(Listener::begin(SocketAddr::new(Ipv4Addr::from(ip).into(), 0)), name, password)
    }

    fn log_in_with(&self, (listener, pushes): (Listener, Receiver<String>), name: &str, password: &str) -> Client {
        let IpAddr::V4(ip) = listener.address.ip() else { panic!("an IPv4 address") };
        let mut login = self.connect_from(ip.octets());
        for payload in ["LIN", name, password] {
            frame(&mut login, payload);
        }
        assert_eq!(frame_of(&mut login).as_deref(), Some("LOGIN_OKAY"));
        self.settled(login, (listener, pushes))
    }

    /// The rest of a login that is okay. The host that is claimed is somebody else's.
    pub(in crate::compat) fn settled(
        &self,
        mut login: TcpStream,
        (listener, pushes): (Listener, Receiver<String>),
    ) -> Client {
        let token = frame_of(&mut login).expect("a token");
        frame(&mut login, "192.0.2.1");
        frame(&mut login, &listener.address.port().to_string());
        assert_eq!(frame_of(&mut login), None, "then it is closed");
        Client { center: self.0, token, pushes, listener }
    }
}

impl Listener {
    /// Begins to take pushes; each is one frame on a connection of its own.
    pub(in crate::compat) fn begin(address: SocketAddr) -> (Self, Receiver<String>) {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("its address");
        let (sender, pushes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || take_pushes(&listener, &sender, &stop)
        });
        (Self { address, stop, thread: Some(thread) }, pushes)
    }

    pub(in crate::compat) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nobody listens there.
    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.take().map(JoinHandle::join);
    }
}

fn take_pushes(listener: &TcpListener, pushes: &Sender<String>, stop: &AtomicBool) {
    while let Ok((mut stream, _)) = listener.accept() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Some(payload) = frame_of(&mut stream) else { continue };
        assert_eq!(frame_of(&mut stream), None, "one frame in a push");
        if pushes.send(payload).is_err() {
            return;
        }
    }
}

impl Client {
    /// Asks something on a connection of its own; the answer, if there is one, once it is done. `TOKEN` stands for ours.
    pub(in crate::compat) fn ask(&self, request: &str) -> Option<String> {
        let IpAddr::V4(ip) = self.listener.address.ip() else { panic!("an IPv4 address") };
        let mut stream = Center(self.center).connect_from(ip.octets());
        frame(&mut stream, &request.replace("TOKEN", &self.token));
        frame_of(&mut stream)
    }

    /// Asks until this is answered: after a restart not everybody is back at once.
    pub(in crate::compat) fn ask_until(&self, request: &str, answer: &str) {
        let until = Instant::now() + DEADLINE;
        while self.ask(request).as_deref() != Some(answer) {
            assert!(Instant::now() < until, "{request} is never answered {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Says something privately, at the port of whom it is for.
    pub(in crate::compat) fn whisper(&self, at: SocketAddr, payload: &str) {
        let IpAddr::V4(ip) = self.listener.address.ip() else { panic!("an IPv4 address") };
        Center(at).say_from(ip.octets(), payload);
    }

    pub(in crate::compat) fn token(&self) -> &str {
        &self.token
    }

    pub(in crate::compat) fn port(&self) -> u16 {
        self.listener.port()
    }

    /// What is pushed next.
    #[track_caller]
    pub(in crate::compat) fn next(&self) -> String {
        self.pushes.recv_timeout(DEADLINE).expect("a push")
    }

    /// What is pushed next is exactly this.
    #[track_caller]
    pub(in crate::compat) fn expect(&self, payload: &str) {
        assert_eq!(self.next(), payload);
    }

    /// What is pushed next says this.
    #[track_caller]
    pub(in crate::compat) fn expect_with(&self, says: &str) {
        let payload = self.next();
        assert!(payload.contains(says), "{says:?} should be in {payload:?}");
    }

    /// This is pushed, perhaps after who comes and goes.
    #[track_caller]
    pub(in crate::compat) fn expect_later(&self, payload: &str) {
        loop {
            let next = self.next();
            if next == payload {
                return;
            }
            assert!(next.ends_with(" has logged on.") || next.ends_with(" is offline."), "{next:?}, not {payload:?}");
        }
    }

    pub(in crate::compat) fn has_nothing_more(&self) -> bool {
        self.pushes.try_recv().is_err()
    }

    /// As if it were killed: its port is gone.
    pub(in crate::compat) fn stops_listening(&mut self) {
        self.listener.end();
    }

    /// Logs in again at the same port, as a program that was started again.
    pub(in crate::compat) fn comes_back(mut self, name: &str, password: &str) -> Self {
        self.listener.end();
        Center(self.center).log_in_with(Listener::begin(self.listener.address), name, password)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

/// Puts a payload into a frame.
pub(in crate::compat) fn frame(to: &mut impl Write, payload: &str) {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let bytes = [&length.to_be_bytes()[..], payload.as_bytes()].concat();
    to.write_all(&bytes).expect("it reads");
}

/// The payload of the next frame; `None` when the connection is closed before one begins.
pub(in crate::compat) fn frame_of(from: &mut impl Read) -> Option<String> {
    let mut head = [0; 4];
    from.read_exact(&mut head).ok()?;
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes(head)).expect("a short payload")];
    from.read_exact(&mut payload).expect("a whole frame");
    Some(String::from_utf8(payload).expect("text"))
}
