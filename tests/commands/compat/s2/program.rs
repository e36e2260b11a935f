//! An old program of the dialect s2, written from the bytes of its messages: a UDP socket towards the server, a TCP listener
//! for whoever wants its files, and the reading of files from others.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any answer takes, on a slow machine with others at work.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the keys of a transfer are called, and how it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::compat) enum Kind {
    K,
    A,
    J,
}

impl Kind {
    /// Type, number, file, chunk, text, reason.
    fn keys(self) -> [&'static str; 6] {
        match self {
            Self::K => ["service", "request_#", "filename", "chunk_#", "Text", "Reason"],
            Self::A => ["TYPE", "rq", "file_name", "chunk", "text", "reason"],
            Self::J => ["header", "RQ", "file_name", "chunk_number", "text", "reason"],
        }
    }

    /// A message as it goes over TCP.
    pub(in crate::compat) fn framed(self, message: &str) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let prefix: &[u8] = if self == Self::K { &length } else { &[] };
        [prefix, message.as_bytes()].concat()
    }

    pub(in crate::compat) fn download(self, file: &str) -> String {
        let [kind, number, name, ..] = self.keys();
        format!(r#"{{"{kind}": "DOWNLOAD", "{number}": 1, "{name}": {}}}"#, json!(file))
    }
}

/// A program that runs.
pub(in crate::compat) struct Program {
    pub(in crate::compat) kind: Kind,
    pub(in crate::compat) udp: UdpSocket,
    server: SocketAddr,
    tcp_port: u16,
    files: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Program {
    pub(in crate::compat) fn start(kind: Kind, server: SocketAddr) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), kind, server)
    }

    /// At another address of this machine.
    pub(in crate::compat) fn start_at(ip: IpAddr, kind: Kind, server: SocketAddr) -> Self {
        let udp = UdpSocket::bind((ip, 0)).expect("a free port");
        udp.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let listener = TcpListener::bind((ip, 0)).expect("a free port");
        let tcp_port = listener.local_addr().expect("it is bound").port();
        let files = Arc::new(Mutex::new(BTreeMap::new()));
        let served = files.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let files: BTreeMap<String, String> = Mutex::lock(&served).expect("no test holds it").clone();
                // Whoever asks may leave in the middle.
                std::thread::spawn(move || drop(serve(kind, tcp, &files)));
            }
        });
        Self { kind, udp, server, tcp_port, files }
    }

    pub(in crate::compat) fn udp_port(&self) -> u16 {
        self.udp.local_addr().expect("it is bound").port()
    }

    pub(in crate::compat) fn tcp_port(&self) -> u16 {
        self.tcp_port
    }

    /// Puts a file into its folder.
    pub(in crate::compat) fn has(&self, name: &str, text: &str) {
        self.files.lock().expect("no thread broke").insert(name.to_owned(), text.to_owned());
    }

    pub(in crate::compat) fn say(&self, datagram: impl AsRef<[u8]>) {
        self.udp.send_to(datagram.as_ref(), self.server).expect("it is sent");
    }

    /// The next answer, as the program reads it: in one call.
    #[track_caller]
    pub(in crate::compat) fn hear(&self) -> String {
        let mut bytes = [0; 65_536];
        let (count, from) = self.udp.recv_from(&mut bytes).expect("an answer in time");
        assert_eq!(from, self.server, "from where the request went");
        let buffer = if self.kind == Kind::K { 1_024 } else { 4_096 };
        assert!(count <= buffer, "{count} bytes do not fit its buffer");
        String::from_utf8(bytes[..count].to_vec()).expect("an answer is text")
    }

    /// Asks, and checks the bytes of the answer.
    #[track_caller]
    pub(in crate::compat) fn asks(&self, datagram: impl AsRef<[u8]>, answer: &str) {
        self.say(datagram);
        assert_eq!(self.hear(), answer);
    }

    /// Asks, and gives the answer as JSON.
    #[track_caller]
    pub(in crate::compat) fn answer(&self, datagram: impl AsRef<[u8]>) -> Value {
        self.say(datagram);
        serde_json::from_str(&self.hear()).expect("whole JSON")
    }

    /// Asks again when no answer comes within a second, as a person does: the network may lose what is asked.
    #[track_caller]
    pub(in crate::compat) fn answer_after_tries(&self, datagram: &str, tries: usize) -> Value {
        self.udp.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        let number = serde_json::from_str::<Value>(datagram).expect("a request")["request_#"].clone();
        for _ in 0..tries {
            self.say(datagram);
            let mut bytes = [0; 1_024];
            while let Ok(count) = self.udp.recv(&mut bytes) {
                let answer: Value = serde_json::from_slice(&bytes[..count]).expect("whole JSON");
                if answer["request_#"] == number {
                    self.udp.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                    return answer;
                }
            }
        }
        panic!("{datagram} is not answered");
    }

    /// Its REGISTER, in its own words.
    pub(in crate::compat) fn registration(&self, number: &str, name: &str) -> String {
        let (udp, tcp) = (self.udp_port(), self.tcp_port);
        match self.kind {
            Kind::K => format!(
                r#"{{"service": "REGISTER", "request_#": "{number}", "name": "{name}", "IP": "127.0.0.1", "UDP_socket": {udp}, "TCP_socket": {tcp}}}"#
            ),
            Kind::A => format!(
                r#"{{"TYPE": "REGISTER", "rq": {number}, "name": "{name}", "ip_address": "127.0.0.1", "udp_socket": {udp}, "tcp_socket": {tcp}}}"#
            ),
            Kind::J => format!(
                r#"{{"header": "REGISTER", "RQ": "{number}", "name": "{name}", "ip": "127.0.0.1", "udp_socket": {udp}, "tcp_socket": {tcp}}}"#
            ),
        }
    }

    /// Registers, and is told that the name is its own.
    #[track_caller]
    pub(in crate::compat) fn registers(self, name: &str) -> Self {
        let answer = self.answer(self.registration("1", name));
        let [kind, ..] = self.kind.keys();
        assert_eq!(answer[kind], "REGISTERED", "{answer}");
        self
    }

    /// Puts files into its folder and on its list. Of kind K.
    #[track_caller]
    pub(in crate::compat) fn publishes(&self, name: &str, files: &[(&str, &str)]) {
        files.iter().for_each(|(file, text)| self.has(file, text));
        let names: Vec<_> = files.iter().map(|(file, _)| *file).collect();
        let datagram =
            json!({"service": "PUBLISH", "request_#": "P", "name": name, "list of files": names}).to_string();
        self.asks(datagram, r#"{"service": "PUBLISHED", "request_#": "P"}"#);
    }

    /// Fetches a file, as its user would: the text, or the reason why there is none.
    pub(in crate::compat) fn fetches(&self, at: SocketAddr, file: &str) -> Result<String, String> {
        let mut tcp = connect(self.udp.local_addr().expect("it is bound").ip(), at);
        tcp.write_all(&self.kind.framed(&self.kind.download(file))).expect("it is sent");
        receive(self.kind, &mut tcp, file)
    }
}

/// A connection from one address of this machine: there are many, and the kernel would pick the first.
pub(in crate::compat) fn connect(from: IpAddr, at: SocketAddr) -> TcpStream {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let socket = socket.expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).expect("an address of this machine");
    rustix::net::connect(&socket, &at).expect("somebody listens there");
    let tcp = TcpStream::from(socket);
    tcp.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    tcp
}

/// Reads a file as programs of this kind do.
pub(in crate::compat) fn receive(kind: Kind, tcp: &mut TcpStream, file: &str) -> Result<String, String> {
    let [type_key, number, name, chunk, text_key, reason] = kind.keys();
    let (mut text, first) = (String::new(), if kind == Kind::J { 1 } else { 0 });
    for expected in first.. {
        let message = read_message(kind, tcp).map_err(|error| format!("connection: {error}"))?;
        let fields: Value = serde_json::from_str(&message).expect("one whole message at a time");
        if fields[type_key] == "DOWNLOAD-ERROR" {
            return Err(fields[reason].as_str().expect("a reason").to_owned());
        }
        let part = fields[text_key].as_str().expect("a text").to_owned();
        let kind_of_message = fields[type_key].as_str().expect("a type").to_owned();
        assert_eq!((&fields[number], &fields[name], &fields[chunk]), (&json!(1), &json!(file), &json!(expected)));
        let keys = format!(r#"{{"{type_key}": "{kind_of_message}", "{number}": 1, "{name}": "#);
        assert!(message.starts_with(&keys), "{message}");
        text.push_str(&part);
        match kind_of_message.as_str() {
            "FILE" => assert_eq!(part.chars().count(), 200, "all chunks but the last are full"),
            "FILE-END" => return Ok(text),
            other => panic!("{other}"),
        }
        if kind == Kind::A {
            tcp.write_all(b"ACK").expect("it is sent");
        }
    }
    unreachable!("chunks have no last number")
}

/// One message: K reads a length first, the others read until an object is whole. The originals took what one read gave; on
/// a machine with others at work that would be a matter of luck.
fn read_message(kind: Kind, tcp: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if kind == Kind::K {
        let mut length = [0; 4];
        tcp.read_exact(&mut length)?;
        bytes.resize(usize::try_from(u32::from_be_bytes(length)).expect("a short message"), 0);
        tcp.read_exact(&mut bytes)?;
    }
    while kind != Kind::K && (bytes.last() != Some(&b'}') || serde_json::from_slice::<Value>(&bytes).is_err()) {
        let mut byte = [0];
        tcp.read_exact(&mut byte)?;
        bytes.extend(byte);
    }
    Ok(String::from_utf8(bytes).expect("text"))
}

/// Gives one file to whoever asks, in chunks of 200 characters.
fn serve(kind: Kind, mut tcp: TcpStream, files: &BTreeMap<String, String>) -> std::io::Result<()> {
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_nodelay(true)?;
    let asked = read_message(kind, &mut tcp)?;
    let [type_key, number_key, name_key, chunk_key, text_key, reason_key] = kind.keys();
    let asked: Value = serde_json::from_str(&asked).expect("whole JSON");
    assert_eq!(asked[type_key], "DOWNLOAD");
    let (name, number) = (asked[name_key].as_str().expect("a name"), &asked[number_key]);
    let Some(text) = files.get(name) else {
        let error = json!({type_key: "DOWNLOAD-ERROR", number_key: number, reason_key: "File does not exist."});
        return tcp.write_all(&kind.framed(&error.to_string()));
    };
    let characters: Vec<char> = text.chars().collect();
    let mut chunks: Vec<String> = characters.chunks(200).map(|chunk| chunk.iter().collect()).collect();
    if chunks.is_empty() {
        chunks.push(String::new());
    }
    let last = chunks.len() - 1;
    for (index, chunk) in chunks.iter().enumerate() {
        let what = if index == last { "FILE-END" } else { "FILE" };
        let message = json!({type_key: what, number_key: number, name_key: name, chunk_key: index, text_key: chunk});
        tcp.write_all(&kind.framed(&message.to_string()))?;
        if kind == Kind::A && index != last {
            let mut word = [0; 3];
            tcp.read_exact(&mut word)?;
            assert_eq!(&word, b"ACK");
        }
    }
    Ok(())
}
