//! Every bound on what a remote side can make us hold, each with its unit and its reason.
//! Timeouts and windows of QUIC itself live in `transport/tuning.rs`.

use std::time::Duration;

/// A control frame's body: the largest envelope (24 KiB) and a page of a listing fit, a memory attack does not.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A control frame of somebody who has not logged in: a login with the longest name and password fits, so that a
/// thousand strangers cannot make the directory hold much.
pub const STRANGER_FRAME_BYTES_MAX: usize = 4 * 1024;

/// A text with signature and header fits the largest padding bucket of an envelope (16 KiB).
pub const TEXT_BYTES_MAX: usize = 15 * 1024;

/// The ciphertext of an envelope: the largest padding bucket and its authentication tag, with room to grow.
pub const SEALED_BYTES_MAX: usize = 20 * 1024;

/// What file systems hold in one path component.
pub const FILE_NAME_BYTES_MAX: usize = 255;

/// Its hash tree (32 bytes for each 256 KiB) stays within 128 MiB of the receiver's memory.
pub const FILE_BYTES_MAX: u64 = 1 << 40;

/// A path within a shared folder: what file systems take in one call.
pub const PATH_BYTES_MAX: usize = 4_096;

/// Folders within each other, so that a receiver's walk is short, and the handles that it holds are few.
pub const PATH_DEPTH_MAX: usize = 64;

/// The list of what is in a shared folder, encoded: half a million files with names of usual length.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Files and folders in a shared folder: their list stays within some 128 MiB of the receiver's memory.
pub const MANIFEST_ENTRIES_MAX: usize = 500_000;

/// A password: long enough for any passphrase, short enough to hash cheaply before Argon2 sees it.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Entries of a listing in one answer: 64 entries with the longest names fit one frame.
pub const PAGE_ENTRIES_MAX: usize = 64;

/// A search pattern: longer ones match no name.
pub const PATTERN_BYTES_MAX: usize = FILE_NAME_BYTES_MAX;

/// Files one account can publish.
pub const SHARES_PER_ACCOUNT_MAX: u64 = 10_000;

/// Messages that wait for one account.
pub const MAILBOX_MESSAGES_MAX: u64 = 1_000;

/// Bytes that wait for one account.
pub const MAILBOX_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Messages from one sender that wait for one account, so that nobody can fill another's mailbox alone.
pub const MAILBOX_PER_SENDER_MAX: u64 = 100;

/// How long a message waits for its recipient.
pub const MAILBOX_DAYS: u64 = 30;

/// Runs of numbers that one message names as not coming: with numbers below 2^32, 64 runs and the longest text fit an
/// envelope.
pub const SKIPPED_RUNS_MAX: usize = 64;

/// Refused messages that are looked at to name them in the next: some milliseconds' worth of an index.
pub const REFUSED_READ_MAX: usize = 20_000;

/// Sequence numbers go up to here: what is higher is a lie, and would leave no room for the next.
pub const SEQUENCE_MAX: u64 = 1 << 48;

/// Receipts in one frame: 13 KiB.
pub const RECEIPTS_PER_FRAME_MAX: usize = 64;

/// Receipts that wait for one account; the oldest make room, because a receipt is news and no message.
pub const RECEIPTS_WAITING_MAX: u64 = 10_000;

/// Receipts of one key that wait for one account and were not asked for by a message that was handed over.
pub const RECEIPTS_PER_SENDER_MAX: u64 = 1_000;

/// Messages in one question whether they are still there: 25 KiB.
pub const MISSING_PER_FRAME_MAX: usize = 512;

/// How long a message waits for those before it.
pub const GAP_HELD: Duration = Duration::from_secs(10);

/// Messages of one sender that wait for those before them; with more, nothing is waited for any longer.
pub const HELD_PER_SENDER_MAX: usize = 256;

/// How long a peer link without a transfer or a message is kept.
pub const LINK_IDLE: Duration = Duration::from_secs(120);

/// And one in whose place there is a newer one: a transfer that uses it opens its next stream within this.
pub const LINK_REPLACED_IDLE: Duration = PROGRESS_DEADLINE;

/// Open peer links: for another one the oldest that nobody uses is closed. Each can hold 16 MiB.
pub const LINKS_MAX: usize = 64;

/// Links to one key: a direct and a relayed one of the account's peer and of each of its errands.
pub const LINKS_PER_KEY_MAX: usize = 2 * (1 + ERRANDS_PER_ACCOUNT_MAX);

/// Files fetched over one link at a time; the others wait. Half of a link's streams: messages always find one.
pub const FETCHES_PER_LINK_MAX: usize = 32;

/// People from whom one file is fetched at a time: fewer than the dials that an account has in a minute.
pub const SOURCES_PER_FILE_MAX: usize = 8;

/// The shortest time that a message over a peer link waits for its receipt before it goes through the directory.
pub const DIRECT_PATIENCE: Duration = Duration::from_millis(500);

/// Messages in the sender's own outbox that the directory has not taken yet.
pub const OUTBOX_MESSAGES_MAX: u64 = 10_000;

/// Addresses in one dial announcement; what exceeds it is dropped by the receiver.
pub const CANDIDATES_MAX: usize = 8;

/// How long an announced dial is expected: three attempts on a slow path.
pub const DIAL_LIFETIME: Duration = Duration::from_secs(30);

/// Dials that one account may ask for in a minute, and as many at once. Each lets somebody's program search a path for some
/// seconds, and tells where a program is that lets everybody fetch; a script that fetches one file after the other makes one for
/// each.
pub const DIALS_PER_MINUTE: u32 = 60;

/// Questions for a direct connection that one account may put in a minute, and as often one person may open an exclusive
/// conversation with us: each is a line on somebody's screen.
pub const QUESTIONS_PER_MINUTE: u32 = 10;

/// Connections that one announced dial lets in: one from each candidate, and the relayed one.
pub const CONNECTIONS_PER_DIAL_MAX: usize = CANDIDATES_MAX + 1;

/// Datagrams beside QUIC that wait in memory for one peer; what exceeds it is dropped, as the network may.
pub const DATAGRAM_QUEUE_MAX: usize = 256;

/// People who have asked one account for a direct connection and wait for its answer.
pub const CONSENT_ASKED_MAX: usize = 32;

/// People who may learn one account's address.
pub const GRANTS_PER_ACCOUNT_MAX: u64 = 10_000;

/// Sessions that a directory relays at a time.
pub const RELAY_SESSIONS_MAX: usize = 256;

/// Relayed sessions that one account asked for: as many as it can be talking and fetching at a time.
pub const RELAY_SESSIONS_PER_ACCOUNT_MAX: usize = 32;

/// And between the same two people: nobody can take all ports of another with dials.
pub const RELAY_SESSIONS_PER_PAIR_MAX: usize = 4;

/// How long a relayed session waits for both sides: as long as its dial is expected.
pub const RELAY_JOIN_DEADLINE: Duration = DIAL_LIFETIME;

/// Addresses that one leg challenges at a time, before one of them echoes.
pub const RELAY_CHALLENGES_MAX: usize = 4;

/// Accounts whose relayed bytes of the day are remembered: 2 MiB.
pub const RELAY_ACCOUNTS_MAX: usize = 16_384;

/// UDP ports of a relay when its operator names none: as many sessions as one login can have at a time.
pub const RELAY_PORTS: u16 = 16;

/// And at most: each has a task and half a MiB of buffers.
pub const RELAY_PORTS_MAX: usize = 1_024;

/// Sessions at a directory that may ask where they are seen.
pub const OBSERVERS_MAX: usize = 65_536;

/// Such questions of one session that are answered, in a second.
pub const OBSERVATIONS_PER_SECOND: u64 = 4;

/// A relayed session over which nothing goes for this long is ended; a peer link says something every three seconds.
pub const RELAY_IDLE: Duration = Duration::from_secs(30);

/// What an account may have relayed in a second, both ways together: what a small server's line carries for one person.
pub const RELAY_BYTES_PER_SECOND: u64 = 12_500_000;

/// What an account may have relayed in a day.
pub const RELAY_BYTES_PER_DAY: u64 = 10 * 1024 * 1024 * 1024;

/// What a directory relays in a second for all.
pub const RELAY_TOTAL_BYTES_PER_SECOND: u64 = 62_500_000;

/// Announced dials one peer expects at a time.
pub const ANNOUNCED_DIALS_MAX: usize = 64;

/// Offers from others that wait for a person's answer; more are declined at once.
pub const OPEN_OFFERS_MAX: usize = 256;

/// Transfers that a peer keeps: those that run, wait, are paused or have failed. More are refused until some are ended.
pub const TRANSFERS_MAX: usize = 1_000;

/// Transfers that run at a time; the others wait for their turn, so that each that runs is worth its part of the line.
pub const TRANSFERS_AT_ONCE: usize = 8;

/// One control request from first byte to answer.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(15);

/// A stranger's connection until it has logged in.
pub const LOGIN_DEADLINE: Duration = Duration::from_secs(10);

/// A file stream without one byte of progress is given up.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(10);

/// And one whose reader takes nothing: it may have set itself a limit, and has several transfers that take turns.
pub const READER_DEADLINE: Duration = Duration::from_secs(60);

/// The least bytes in a second that somebody may limit their files to: the windows of a dozen streams, a quarter of a MiB
/// each before the sender hears of it, within [`READER_DEADLINE`].
pub const RATE_LIMIT_MIN: u64 = 50_000;

/// An errand session without a request is ended.
pub const ERRAND_IDLE: Duration = Duration::from_secs(60);

/// Connections from one source address that have not logged in.
pub const UNAUTHENTICATED_PER_SOURCE_MAX: usize = 64;

/// Connections of all sources that have not logged in.
pub const UNAUTHENTICATED_MAX: usize = 1_024;

/// Handshakes under way, or given up within [`ABANDONED_REMEMBERED`] without proof of the address, before the directory
/// asks each newcomer to prove its address (QUIC Retry). Each can make it send 5 KiB more than it received; asking
/// costs honest people a round trip.
pub const HANDSHAKES_BEFORE_RETRY: usize = 16;

/// How long a handshake counts that came to nothing, and whose first packet may have been forged.
pub const ABANDONED_REMEMBERED: Duration = Duration::from_secs(60);

/// Sessions of one account beside the resident one.
pub const ERRANDS_PER_ACCOUNT_MAX: usize = 8;

/// New accounts from one source prefix (IPv4 /24, IPv6 /48) in an hour; loopback is not counted.
pub const NEW_ACCOUNTS_PER_PREFIX_PER_HOUR: usize = 30;

/// Passwords from one source prefix that are looked at in a minute, over all accounts: half a second of a processor.
pub const PASSWORDS_PER_PREFIX_PER_MINUTE: usize = 20;

/// Keys that wait for an owner's answer, of all accounts.
pub const KEY_REQUESTS_MAX: usize = 1_024;

/// And of one account, those it has declined lately included: a person answers no more than a few.
pub const KEY_REQUESTS_PER_ACCOUNT_MAX: usize = 4;

/// How long a replaced key may take its account back.
pub const UNDO_DAYS: u64 = 7;

/// Open invitations of one account.
pub const INVITATIONS_PER_ACCOUNT_MAX: u64 = 20;

/// How long an invitation admits somebody.
pub const INVITATION_DAYS: u64 = 7;

/// How long the name of a deleted account is kept back, so that nobody passes for who had it.
pub const DELETED_NAME_DAYS: u64 = 90;

/// File streams that one peer serves at a time.
pub const UPLOADS_MAX: usize = 64;

/// While no more people than this are online who hide from nobody, everyone hears of everyone's coming and going.
pub const PRESENCE_TO_ALL_MAX: usize = 256;

/// People whose presence a session wants to hear of beside its friends': those it talks to.
pub const WATCHED_MAX: usize = 256;

/// How long somebody who left counts as having been here lately.
pub const RECENT: Duration = Duration::from_secs(3_600);

/// People who were here in the last hour and are remembered for that: 2 MiB. The one who left first makes room.
pub const RECENT_MAX: usize = 16_384;

/// Friends of one account, and people it has asked.
pub const FRIENDS_MAX: u64 = 1_000;

/// People who have asked one account to be friends and wait for its answer.
pub const FRIEND_REQUESTS_MAX: u64 = 100;

/// Friends that one account may ask for in an hour.
pub const FRIEND_REQUESTS_PER_HOUR: u32 = 30;

/// People whom one account keeps out.
pub const BLOCKED_MAX: u64 = 1_000;

/// People of whom is remembered that an account has written to them. Later ones stay strangers to it.
pub const ACQUAINTANCES_MAX: u64 = 10_000;

/// Messages that wait for somebody from a person to whom they have never written.
pub const MAILBOX_PER_STRANGER_MAX: u64 = 5;

/// What is said to everybody at once: it is in the memory of each who is online.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 2 * 1024;

/// Changes of how one account lets others see it, in a minute: each is a line on their screens.
pub const PRESENCE_CHANGES_PER_MINUTE: u32 = 10;

/// Announcements that one account may make at once.
pub const ANNOUNCEMENTS_AT_ONCE: u32 = 3;

/// And how soon one more.
pub const ANNOUNCEMENT_PAUSE: Duration = Duration::from_secs(10);

/// An encoded profile with its picture: it fits a frame.
pub const PROFILE_BYTES_MAX: usize = 48 * 1024;

/// The picture in it.
pub const PICTURE_BYTES_MAX: usize = 32 * 1024;

/// The name in a profile that its owner chose: what fits a line.
pub const DISPLAY_NAME_CHARS_MAX: usize = 64;

/// What a person says about themselves: a paragraph.
pub const PROFILE_INFO_BYTES_MAX: usize = 1024;

/// Free fields of a profile: with the longest labels and values they and the picture fit [`PROFILE_BYTES_MAX`].
pub const PROFILE_FIELDS_MAX: usize = 16;

/// What a free field is called.
pub const FIELD_LABEL_CHARS_MAX: usize = 32;

/// What a free field says.
pub const FIELD_VALUE_BYTES_MAX: usize = 512;

/// Versions of a profile go up to here: what is higher is a lie, and would leave no room for the next.
pub const PROFILE_VERSION_MAX: u64 = 1 << 48;

/// Profiles of others that a peer keeps: 48 MiB at most. The one that was asked for longest ago makes room.
pub const PROFILES_MAX: u64 = 1_000;

/// News of keys and requests that wait in memory for one session; what exceeds it is dropped, because it is a hint.
pub const PUSH_QUEUE_MAX: usize = 1_024;

/// People of whose presence one session is still to be told: more than its friends, those it watches, and everyone while
/// the directory is small, so that nothing is lost by it.
pub const PRESENCE_WAITING_MAX: usize = 2_048;

/// Announcements that wait in memory for one session; what exceeds it is dropped, and its sender is told that not
/// everyone heard it.
pub const ANNOUNCEMENTS_WAITING_MAX: usize = 16;

/// Names of older programs that are here at a time: each is a peer with two threads and a database, about 5 MiB.
pub const LEGACY_NAMES_MAX: usize = 256;

/// Of these, names that were never here before: there is room left for those who come back.
pub const LEGACY_NEW_NAMES_MAX: usize = LEGACY_NAMES_MAX * 3 / 4;

/// Names that were never here before, from one network in an hour.
pub const LEGACY_NEW_NAMES_PER_HOUR: usize = 120;

/// And that come from one address: a class in one room, behind one router.
pub const LEGACY_NAMES_PER_SOURCE_MAX: usize = 64;

/// Names of older programs that the gateway has ever made an account for.
pub const LEGACY_NAMES_KNOWN_MAX: usize = 4_096;

/// Days that a name stays bound to the address it came from, after its owner was here last.
pub const LEGACY_BOUND_DAYS: u64 = 30;

/// Names that log in at a time: each costs a handshake.
pub const LEGACY_ARRIVALS_MAX: usize = 16;

/// Requests of one address in a second, and how many at once: a download acknowledges each 200 characters.
pub const LEGACY_REQUESTS_PER_SECOND: u64 = 500;

/// See [`LEGACY_REQUESTS_PER_SECOND`].
pub const LEGACY_REQUESTS_AT_ONCE: u64 = 1_000;

/// Addresses whose requests and bytes are remembered: 512 KiB.
pub const LEGACY_SOURCES_MAX: usize = 4_096;

/// Bytes that one address is sent beyond what came from it.
pub const LEGACY_ALLOWANCE_BYTES: u64 = 64 * 1024;

/// Bytes that may be sent for each that came.
pub const LEGACY_ALLOWANCE_FACTOR: u64 = 3;

/// By which the allowance fills again, so that whoever only listens goes on being told.
pub const LEGACY_ALLOWANCE_PER_SECOND: u64 = 1024;

/// A file that goes between an old program and qchat: it is held in memory, and 200 characters at a time take their time.
pub const LEGACY_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Files that the gateway holds in memory at a time.
pub const LEGACY_FILES_AT_ONCE: usize = 8;

/// One frame or message of an old program over TCP.
pub const LEGACY_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Connections of old programs at a time, of all doors together.
pub const LEGACY_CONNECTIONS_MAX: usize = 512;

/// And of one address.
pub const LEGACY_CONNECTIONS_PER_SOURCE_MAX: usize = 64;

/// A datagram of an `s3` program that is looked at: four times what its own programs can read.
pub const S3_DATAGRAM_BYTES_MAX: usize = 8 * 1024;

/// A datagram to an `s3` program: it reads no more.
pub const S3_TAKEN_BYTES_MAX: usize = 2_048;

/// People of other systems in the table of an `s3` program, which has room for about thirty rows.
pub const S3_OTHERS_SHOWN_MAX: usize = 30;

/// Ports of the door of `s3` that stand for people: each is a socket and a task.
pub const S3_STAND_INS_MAX: usize = 512;

/// Requests to the door of `s3` that are worked on at a time; what exceeds it is lost, as on the network.
pub const S3_REQUESTS_MAX: usize = 512;

/// And of one address: a class behind one router, each of whom waits for one answer at a time.
pub const S3_REQUESTS_PER_SOURCE_MAX: usize = 128;

/// Messages of `s3` programs that are remembered for when they come again: 8 MiB at worst.
pub const S3_RECENT_MAX: usize = 1_024;

/// Announcements that wait for one `s3` name that was here and did not answer.
pub const S3_ANNOUNCEMENTS_KEPT_MAX: usize = 16;

/// A datagram of the JSON dialect that is read; a chunk of a file needs a quarter of that at most.
pub const LEGACY_JSON_BYTES_MAX: usize = 8 * 1024;

/// A datagram of the JSON dialect that is sent, so that no path splits it: IPv6 carries 1,280 bytes everywhere.
pub const LEGACY_JSON_SENT_BYTES_MAX: usize = 1_200;

/// Levels of a JSON value: the message, a list, a row, a list in it, and room.
pub const LEGACY_JSON_DEPTH_MAX: u8 = 8;

/// Bytes of a request's number.
pub const LEGACY_JSON_NUMBER_BYTES_MAX: usize = 64;

/// Characters of a file in one message, as the older systems have it.
pub const LEGACY_CHUNK_CHARS: usize = 200;

/// Files that one message publishes or takes back.
pub const LEGACY_JSON_FILES_MAX: usize = 64;

/// Files that one name has promised and not yet brought.
pub const LEGACY_PROMISED_FILES_MAX: usize = 256;

/// Requests of the JSON dialect that are being worked on, of everybody: a task each.
pub const LEGACY_JSON_TASKS_MAX: usize = 512;

/// And of one address, so that nobody takes all of them.
pub const LEGACY_JSON_TASKS_PER_SOURCE_MAX: usize = 48;

/// Requests of one address whose answers are remembered for repetitions: two minutes of a busy program.
pub const LEGACY_JSON_ANSWERS_PER_SOURCE_MAX: usize = 1_024;

/// And of all addresses: 20 MiB at the very most.
pub const LEGACY_JSON_ANSWERS_MAX: usize = 16_384;

/// Files on their way to one address at a time.
pub const LEGACY_JSON_DOWNLOADS_PER_SOURCE_MAX: usize = 2;

/// Chunks on their way that are not acknowledged: 4 KiB, which every path holds.
pub const LEGACY_JSON_WINDOW: usize = 16;

/// What one name is told that is not kept for it: presence and the like. Then the oldest is forgotten.
pub const LEGACY_JSON_NOTICES_MAX: usize = 64;

/// Names and addresses whose wrong passwords are remembered.
pub const LEGACY_LOCKS_MAX: usize = 4_096;
