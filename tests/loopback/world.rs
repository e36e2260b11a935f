//! What the stories are told with: a real directory, real peers in folders of their own, and clients made by hand.
//! Nobody sleeps to wait for something; whatever is awaited has a deadline.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qchat::clock::now_millis;
use qchat::directory::invitations::Admission as Whom;
use qchat::directory::invitations::Admission::{InviteOnly, Open};
use qchat::directory::legacy::LegacyAccounts;
use qchat::directory::relay::{RelayPorts, RelaySettings};
use qchat::directory::server::{Directory, DirectoryError, Settings};
use qchat::peer::context::{Account, PathChoice};
use qchat::peer::directory_link::{Admission, DirectoryAddress, LoginFailure};
use qchat::peer::driver::Peer;
use qchat::peer::event::Event;
use qchat::peer::failure::Failure;
use qchat::peer::handle::{Command, PeerHandle, Source, Term};
use qchat::seal::identity::{IdentityKey, Label, login_statement};
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::storage::partial_file::Collision;
use qchat::storage::profile::{Home, Profile, make_private_folder};
use qchat::storage::receive_tree::Executable;
use qchat::transport::connection::{Connection, TransportError};
use qchat::transport::endpoint::Endpoint;
use qchat::transport::stream::Stream;
use qchat::transport::tuning::{HANDSHAKE_DEADLINE, Network};
use qchat::transport::verify::AnnouncedDials;
use qchat::wire::account::{Identity, LoggedIn, Login, LoginKind};
use qchat::wire::datagram::Datagram;
use qchat::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{DialId, DirectoryFingerprint, FileName, InviteToken, Password, PeerKey, PeerName};
use qchat::wire::refusal::Refusal;
use qchat::wire::rendezvous::{DialAnnounced, DialGranted, DialRequest, Purpose};
use qchat::wire::transfer::{PeerRequest, ReceivedAnswer};
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot};
use tokio::task::{JoinError, JoinSet};

/// Longer than anything here takes, so that a test that hangs says where.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const ERRAND: LoginKind = LoginKind::Errand { collects: false };

/// Waits for something that must come, and otherwise says who waited.
#[track_caller]
pub(crate) fn in_time<F: Future>(awaited: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let result = tokio::time::timeout(PATIENCE, awaited).await;
        result.unwrap_or_else(|_| panic!("what {caller} waits for did not come"))
    }
}

pub(crate) fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

pub(crate) fn file_name(text: &str) -> FileName {
    FileName::parse(text).unwrap()
}

/// Where a directory is, and which one it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: DirectoryFingerprint,
}

/// A directory that runs until it is stopped or dropped.
pub(crate) struct TestDirectory {
    pub(crate) place: Place,
    /// By which its gateway makes accounts.
    pub(crate) legacy: LegacyAccounts,
    running: JoinSet<Result<(), DirectoryError>>,
    stop: oneshot::Sender<()>,
    folder: TempDir,
    admission: Whom,
}

/// A stopped directory: its folder, and the address that its peers know.
pub(crate) struct Stopped {
    folder: TempDir,
    address: SocketAddr,
    admission: Whom,
}

impl TestDirectory {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "127.0.0.1:0".parse().unwrap(), Open)
    }

    /// A directory that wants invitations, and its operator's.
    pub(crate) async fn start_invite_only() -> (Self, InviteToken) {
        let folder = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let directory = Self::open(&folder, listen, InviteOnly);
        let token = directory.first_invitation().await.unwrap().unwrap();
        (Self::run(folder, directory, InviteOnly), token)
    }

    fn start_in(folder: TempDir, listen: SocketAddr, admission: Whom) -> Self {
        let directory = Self::open(&folder, listen, admission);
        Self::run(folder, directory, admission)
    }

    fn open(folder: &TempDir, listen: SocketAddr, admission: Whom) -> Directory {
        let settings = Settings {
            listen,
            certificate_folder: folder.path().join("certs"),
            data: folder.path().join("data"),
            admission,
            limits: Default::default(),
            network: Network::default(),
            relay: RelaySettings { ports: RelayPorts::Any(4), ..Default::default() },
        };
        Directory::start(settings).unwrap()
    }

    fn run(folder: TempDir, directory: Directory, admission: Whom) -> Self {
        let place = Place { address: directory.local_address(), fingerprint: directory.fingerprint() };
        let legacy = directory.legacy_accounts();
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(directory.run(async { drop(stopped.await) }));
        Self { place, legacy, running, stop, folder, admission }
    }

    pub(crate) async fn stop(mut self) -> Stopped {
        self.stop.send(()).unwrap();
        in_time(self.running.join_next()).await.unwrap().unwrap().unwrap();
        Stopped { folder: self.folder, address: self.place.address, admission: self.admission }
    }

    /// The folder with everything the directory keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Stopped {
    pub(crate) fn start_again(self) -> TestDirectory {
        TestDirectory::start_in(self.folder, self.address, self.admission)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// One computer of one person: the profile and the files, which outlive the peers that run on it.
pub(crate) struct Machine {
    place: Place,
    name: PeerName,
    profile: Arc<Profile>,
    home: TempDir,
}

impl Machine {
    /// A computer without a key for the account.
    pub(crate) fn new(place: Place, owner: &str) -> Arc<Self> {
        Self::in_home(place, name(owner), tempfile::tempdir().unwrap())
    }

    /// Another computer with the same key.
    pub(crate) fn twin(&self) -> Arc<Self> {
        let home = tempfile::tempdir().unwrap();
        let profile = Home::at(home.path().to_owned()).profile_folder(self.place.fingerprint, &self.name);
        make_private_folder(&profile).unwrap();
        fs::copy(self.profile.folder().join("identity"), profile.join("identity")).unwrap();
        Self::in_home(self.place, self.name.clone(), home)
    }

    fn in_home(place: Place, name: PeerName, home: TempDir) -> Arc<Self> {
        let profile = Profile::open(&Home::at(home.path().to_owned()), place.fingerprint, &name, &mut OsRandom);
        for folder in ["files", "downloads"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        Arc::new(Self { place, name, profile: Arc::new(profile.unwrap()), home })
    }

    /// Starts the resident peer of an account that knows this machine's key.
    pub(crate) async fn resident(self: &Arc<Self>) -> TestPeer {
        self.start(LoginKind::Resident, None, false).await.unwrap()
    }

    /// Starts the resident peer of an account whose key was this machine's, and makes it so again.
    pub(crate) async fn take_back(self: &Arc<Self>) -> TestPeer {
        self.admitted(LoginKind::Resident, Admission { undo: true, ..Admission::default() }).await.unwrap()
    }

    pub(crate) async fn start(
        self: &Arc<Self>,
        kind: LoginKind,
        password: Option<&str>,
        register: bool,
    ) -> Result<TestPeer, LoginFailure> {
        let password = password.map(|text| Password::parse(text).unwrap());
        self.admitted(kind, Admission { password, register, ..Admission::default() }).await
    }

    async fn admitted(self: &Arc<Self>, kind: LoginKind, admission: Admission) -> Result<TestPeer, LoginFailure> {
        let Place { address, fingerprint } = self.place;
        let directory = DirectoryAddress { host: address.ip().to_string(), port: address.port() };
        let account = Account {
            name: self.name.clone(),
            directory,
            fingerprint,
            kind,
            collects_mail: kind == LoginKind::Resident,
            sends_read_receipts: true,
            paths: PathChoice::Any,
        };
        let peer = in_time(Peer::start(account, self.profile.clone(), &admission, Network::default())).await?;
        let handle = peer.handle();
        let heard = handle.events();
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(peer.run(async { drop(stopped.await) }));
        Ok(TestPeer { machine: self.clone(), handle, heard, running, stop })
    }

    pub(crate) fn name(&self) -> &PeerName {
        &self.name
    }

    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// A client made by hand that logs in with this machine's key beside its peer.
    pub(crate) async fn raw_errand(&self) -> RawClient {
        let client = RawClient::connect(self.place, IdentityKey::from_seed(self.profile.identity().seed())).await;
        client.log_in(client.login(self.name.as_str(), ERRAND)).await.unwrap();
        client
    }

    /// Writes a file and says where.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join("files").join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.home.path().join("downloads")
    }
}

/// A real peer that runs until it is stopped, and everything it has told since it started.
pub(crate) struct TestPeer {
    pub(crate) machine: Arc<Machine>,
    pub(crate) handle: PeerHandle,
    heard: broadcast::Receiver<Event>,
    running: JoinSet<Result<(), Failure>>,
    stop: oneshot::Sender<()>,
}

impl TestPeer {
    /// A new account on a new machine, to which others can already seal.
    pub(crate) async fn join(directory: &TestDirectory, name: &str) -> Self {
        Self::join_at(directory.place, name).await
    }

    pub(crate) async fn join_at(place: Place, name: &str) -> Self {
        let machine = Machine::new(place, name);
        let peer = machine.start(LoginKind::Resident, Some(PASSWORD), true).await.unwrap();
        let errand = machine.raw_errand().await;
        while errand.identify(name).await.prekey.is_none() {}
        peer
    }

    /// Ends the peer as its user would.
    pub(crate) async fn stop(self) -> Arc<Machine> {
        self.stop.send(()).unwrap();
        let mut running = self.running;
        in_time(running.join_next()).await.unwrap().unwrap().unwrap();
        self.machine
    }

    /// Waits until the peer ends by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        in_time(self.running.join_next()).await.unwrap().unwrap()
    }

    /// Drops the peer in the middle of its work, and says how that went.
    pub(crate) async fn dropped(self) -> JoinError {
        let mut running = self.running;
        running.abort_all();
        in_time(running.join_next()).await.unwrap().unwrap_err()
    }

    /// Waits for an event; others before it are passed over.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> impl Future<Output = T> {
        in_time(async move {
            loop {
                let event = self.heard.recv().await.expect("the peer tells events while its handle lives");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        })
    }

    /// The next line of chat, and who wrote it.
    #[track_caller]
    pub(crate) fn next_line(&mut self) -> impl Future<Output = (String, String)> {
        self.until(|event| match event {
            Event::Message { from, text, .. } => Some((from.to_string(), text.clone())),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn ask(&self, command: Command) -> impl Future<Output = Result<Vec<Event>, Failure>> {
        in_time(self.handle.ask(command))
    }

    /// Sends a line of chat and waits until the directory has it.
    #[track_caller]
    pub(crate) fn say(&self, to: &str, text: &str) -> impl Future<Output = ()> {
        let said = self.ask(Command::Message { to: name(to), text: text.to_owned() });
        async {
            let rows = said.await.unwrap();
            assert!(matches!(rows[..], [Event::Stored { .. }]), "not stored: {rows:?}");
        }
    }

    /// Writes a file and publishes it.
    pub(crate) async fn share(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.machine.file(name, content);
        self.ask(Command::Share { path: path.clone(), hides_address: false, filter: Default::default() })
            .await
            .unwrap();
        path
    }

    /// Lets somebody connect directly.
    pub(crate) async fn allow(&self, text: &str) {
        self.ask(Command::Allow { to: name(text), term: Term::Always }).await.unwrap();
    }

    /// Fetches a published file into the folder of downloads.
    #[track_caller]
    pub(crate) fn get(&self, owner: &str, file: &str, collision: Collision) -> impl Future<Output = Fetched> {
        self.get_into(self.machine.downloads(), owner, file, collision)
    }

    #[track_caller]
    pub(crate) fn get_into(
        &self,
        folder: PathBuf,
        owner: &str,
        file: &str,
        collision: Collision,
    ) -> impl Future<Output = Fetched> {
        let source = Source::Named { owner: name(owner), name: file_name(file) };
        // A test wants to hear how it ended, and not that it goes on later.
        let asked = self.ask(Command::Get { source, folder, collision, executable: Executable::Never, once: true });
        async { asked.await.map(received) }
    }

    pub(crate) fn key(&self) -> PeerKey {
        self.machine.profile.identity().public()
    }
}

/// Where a file was put and how many of its bytes were there before.
pub(crate) type Fetched = Result<(PathBuf, u64), Failure>;

pub(crate) fn received(rows: Vec<Event>) -> (PathBuf, u64) {
    match rows.last() {
        Some(Event::Received { path, resumed, .. }) => (path.clone(), *resumed),
        other => panic!("the last row is {other:?}"),
    }
}

/// A client made by hand: it says what it wants and answers what it likes.
pub(crate) struct RawClient {
    pub(crate) identity: IdentityKey,
    pub(crate) dials: AnnouncedDials,
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
    directory: DirectoryFingerprint,
}

impl RawClient {
    pub(crate) async fn connect(place: Place, identity: IdentityKey) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let dials = AnnouncedDials::default();
        let endpoint = Endpoint::peer(any, &identity, dials.clone(), Network::default()).unwrap();
        let (connection, directory) =
            in_time(endpoint.connect_directory(place.address, Some(place.fingerprint))).await.unwrap();
        Self { identity, dials, endpoint, connection, directory }
    }

    /// Somebody with a new key who has not logged in.
    pub(crate) async fn stranger(directory: &TestDirectory) -> Self {
        Self::connect(directory.place, IdentityKey::generate(&mut OsRandom)).await
    }

    /// A new account that has logged in.
    pub(crate) async fn registered(directory: &TestDirectory, name: &str, kind: LoginKind) -> Self {
        let client = Self::stranger(directory).await;
        let password = Some(Password::parse(PASSWORD).unwrap());
        client.log_in(Login { password, register: true, ..client.login(name, kind) }).await.unwrap();
        client
    }

    /// A login that proves this client's key on this connection.
    pub(crate) fn login(&self, text: &str, kind: LoginKind) -> Login {
        self.login_signed_for(&self.directory, text, kind)
    }

    pub(crate) fn login_signed_for(&self, directory: &DirectoryFingerprint, text: &str, kind: LoginKind) -> Login {
        let statement = login_statement(directory, &name(text), &self.connection.login_binding());
        let proof = self.identity.sign(Label::Login, &statement);
        Login {
            name: name(text),
            key: self.identity.public(),
            kind,
            proof,
            password: None,
            register: false,
            token: None,
            undo: false,
        }
    }

    pub(crate) async fn log_in(&self, login: Login) -> Result<LoggedIn, Refusal> {
        match self.ask(DirectoryRequest::Login(Box::new(login))).await? {
            DirectoryReply::LoggedIn(logged_in) => Ok(logged_in),
            other => panic!("a login was answered with {other:?}"),
        }
    }

    pub(crate) async fn ask(&self, request: DirectoryRequest) -> DirectoryAnswer {
        in_time(self.connection.request(&request)).await.unwrap()
    }

    pub(crate) async fn identify(&self, text: &str) -> Identity {
        match self.ask(DirectoryRequest::Identify { name: name(text) }).await {
            Ok(DirectoryReply::Identity(identity)) => *identity,
            other => panic!("{text} was identified with {other:?}"),
        }
    }

    /// Has a dial announced to somebody who allows it, without the relay.
    pub(crate) async fn announce(&self, to: &str, key: PeerKey) -> Result<DialGranted, Refusal> {
        self.ask_for_dial(to, key, Purpose::Talk, false).await
    }

    /// Asks for a dial, also through the relay if that is said.
    pub(crate) async fn ask_for_dial(
        &self,
        to: &str,
        key: PeerKey,
        purpose: Purpose,
        relay: bool,
    ) -> Result<DialGranted, Refusal> {
        let request = DialRequest { to: name(to), key, purpose, candidates: Some(Vec::new()), relay };
        match self.ask(DirectoryRequest::Dial(request)).await? {
            DirectoryReply::DialGranted(granted) => Ok(granted),
            other => panic!("a dial was answered with {other:?}"),
        }
    }

    /// Connects to somebody's peer. It does not punch, so only this side dials.
    pub(crate) async fn dial(&self, to: &str, key: PeerKey) -> Connection {
        let granted = self.announce(to, key).await.unwrap();
        let connection = in_time(self.dial_at(granted.direct.candidates()[0], granted.dial, key)).await.unwrap();
        self.agree_on(&connection, key).await;
        connection
    }

    /// Expects a dial that the directory has announced, and says where.
    pub(crate) fn expect(&self, announced: DialAnnounced) -> PushAnswer {
        assert!(self.dials.expect(announced, Instant::now() + Duration::from_secs(30)));
        Ok(PushReply::Candidates(Some(vec![self.endpoint.local_address().unwrap()])))
    }

    /// Answers what the directory pushes: a dial is expected, and everything else taken note of.
    pub(crate) async fn answer_directory(&self, mut stream: Stream) {
        let answer: PushAnswer = match stream.read_frame().await.unwrap() {
            DirectoryPush::Dial(announced) => self.expect(announced),
            DirectoryPush::Delivery(_)
            | DirectoryPush::Opened { .. }
            | DirectoryPush::ConsentAsked { .. }
            | DirectoryPush::ConsentAnswered { .. }
            | DirectoryPush::Receipts(_)
            | DirectoryPush::Drained { .. }
            | DirectoryPush::Presence { .. }
            | DirectoryPush::Announcement { .. }
            | DirectoryPush::FriendAsked { .. }
            | DirectoryPush::FriendAnswered { .. }
            | DirectoryPush::PeopleChanged
            | DirectoryPush::KeyRequested { .. }
            | DirectoryPush::Returned { .. }
            | DirectoryPush::KeyChanged { .. } => Ok(PushReply::Taken),
        };
        stream.write_frame(&answer).await.unwrap();
        stream.finish();
    }

    /// Waits for the next connection. Until it comes, whoever punches is punched: then it dials.
    pub(crate) async fn next_connection(&self) -> Connection {
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => {
                    let (connection, announced) = in_time(incoming.unwrap().accept_peer()).await.unwrap();
                    self.agree_on(&connection, announced.key).await;
                    return connection;
                }
                punch = self.endpoint.receive_datagram() => {
                    let (from, punch) = punch.unwrap();
                    if let Datagram::Punch { .. } = punch {
                        self.endpoint.send_datagram(from, &punch, None);
                    }
                }
            }
        }
    }

    /// Agrees with the other side that a connection is the one to use: the smaller key says so.
    async fn agree_on(&self, connection: &Connection, key: PeerKey) {
        if self.identity.public() < key {
            let answer: ReceivedAnswer = in_time(connection.request(&PeerRequest::Nominate)).await.unwrap();
            assert_eq!(answer, Ok(()));
        } else {
            let mut stream = in_time(connection.accept_stream()).await.unwrap();
            assert_eq!(in_time(stream.read_frame::<PeerRequest>()).await.unwrap(), PeerRequest::Nominate);
            stream.answer(&ReceivedAnswer::Ok(())).await;
        }
    }

    /// Connects to a peer at an address, whatever the directory says.
    pub(crate) async fn dial_at(
        &self,
        address: SocketAddr,
        dial: DialId,
        key: PeerKey,
    ) -> Result<Connection, TransportError> {
        self.endpoint.dial(address, dial, key, HANDSHAKE_DEADLINE, None).await
    }

    /// Publishes a new prekey.
    pub(crate) async fn put_prekey(&self, account: &str) -> PrekeySecret {
        let secret = PrekeySecret::generate(&mut OsRandom);
        let signed = secret.publish(&self.identity, &name(account), now_millis().plus_millis(3_600_000));
        assert_eq!(self.ask(DirectoryRequest::PutPrekey(Box::new(signed))).await, Ok(DirectoryReply::Done));
        secret
    }
}

/// Which request it is: a new kind does not compile until the tests that use this know it.
pub(crate) fn kind_of(request: &DirectoryRequest) -> &'static str {
    match request {
        DirectoryRequest::Login(_) => "login",
        DirectoryRequest::PutPrekey(_) => "put prekey",
        DirectoryRequest::Who { .. } => "who",
        DirectoryRequest::Identify { .. } => "identify",
        DirectoryRequest::Deliver { .. } => "deliver",
        DirectoryRequest::Receipts { .. } => "receipts",
        DirectoryRequest::Missing { .. } => "missing",
        DirectoryRequest::Publish(_) => "publish",
        DirectoryRequest::Unpublish { .. } => "unpublish",
        DirectoryRequest::Find { .. } => "find",
        DirectoryRequest::Dial(_) => "dial",
        DirectoryRequest::Opened { .. } => "opened",
        DirectoryRequest::AskConsent { .. } => "ask consent",
        DirectoryRequest::Allow(_) => "allow",
        DirectoryRequest::Deny { .. } => "deny",
        DirectoryRequest::Grants { .. } => "grants",
        DirectoryRequest::AnswerKeyRequest { .. } => "answer key request",
        DirectoryRequest::Invite => "invite",
        DirectoryRequest::ChangePassword { .. } => "change password",
        DirectoryRequest::DeleteAccount { .. } => "delete account",
        DirectoryRequest::Sessions => "sessions",
        DirectoryRequest::EndOtherSessions => "end other sessions",
        DirectoryRequest::SetPresence(_) => "set presence",
        DirectoryRequest::Watch { .. } => "watch",
        DirectoryRequest::Announce(_) => "announce",
        DirectoryRequest::Block { .. } => "block",
        DirectoryRequest::Unblock { .. } => "unblock",
        DirectoryRequest::Blocked { .. } => "blocked",
        DirectoryRequest::Befriend { .. } => "befriend",
        DirectoryRequest::Unfriend { .. } => "unfriend",
        DirectoryRequest::PutOff { .. } => "put off",
        DirectoryRequest::Friends { .. } => "friends",
        DirectoryRequest::SetAudience(_) => "set audience",
        DirectoryRequest::Audience => "audience",
    }
}

/// Numbers that look random and are the same in every run (xorshift64*, Vigna 2016).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll().to_be_bytes()[0]).collect()
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap() % end
    }
}

/// The content of a file of this size.
pub(crate) fn content(size: usize) -> Vec<u8> {
    Dice(size as u64 + 1).bytes(size)
}
