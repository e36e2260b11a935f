//! What somebody can ask in the JSON dialect: every message of the older systems, with its fields.

use super::object::Object;
use crate::wire::limits::LEGACY_JSON_FILES_MAX;

/// The types of messages that programs send. Some systems have several words for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A name comes.
    Register,
    /// A name goes and may be had by anybody.
    Deregister,
    /// A name is reached at the sender's port from now on.
    UpdateContact,
    /// Files that the sender has.
    Publish,
    /// Files that the sender takes back.
    Remove,
    /// Everybody with their files.
    RetrieveAll,
    /// One person with their files.
    RetrieveInfo,
    /// Who has a file.
    SearchFile,
    /// The bytes of a file.
    Download,
    /// `GET` of two systems: a file, or somebody's address.
    Get,
    /// `ALL` of two systems: everybody, or leave for somebody to learn the sender's address.
    All,
    /// Where somebody is.
    Query,
    /// A name goes and stays its owner's.
    Logout,
    /// The same.
    Out,
    /// The same.
    Disconnect,
    /// Asks to be friends, or accepts.
    Friend,
    /// Accepts.
    Confirm,
    /// Puts off.
    Busy,
    /// A profile.
    Request,
    /// A profile that a friend has.
    Relay,
    /// A profile, or a change of the sender's own.
    Profile,
    /// A line of chat, whose sender waits for `DELIVERED`.
    Chat,
    /// A line of chat.
    Send,
    /// The same.
    Message,
    /// A line to everybody.
    Broadcast,
    /// A name with a password comes.
    LogIn,
    /// Who is here.
    Online,
    /// Keeps somebody out, or lets them in again.
    Block,
    /// The sender is there.
    Heartbeat,
    /// Who is here.
    ClientList,
    /// How somebody is reached.
    ClientInfo,
    /// Begins an exclusive conversation.
    OpenSession,
    /// Ends it.
    CloseSession,
    /// A message or a chunk has come.
    Acknowledge,
    /// A chunk of a file.
    File,
    /// Its last chunk.
    FileEnd,
}

/// How each word is written, and what its denial is.
const WORDS: &[(&str, Word, &str)] = &[
    ("REGISTER", Word::Register, "REGISTER-DENIED"),
    ("DE-REGISTER", Word::Deregister, "DE-REGISTER-DENIED"),
    ("UPDATE-CONTACT", Word::UpdateContact, "UPDATE-DENIED"),
    ("PUBLISH", Word::Publish, "PUBLISH-DENIED"),
    ("REMOVE", Word::Remove, "REMOVE-DENIED"),
    ("RETRIEVE-ALL", Word::RetrieveAll, "RETRIEVE-ERROR"),
    ("RETRIEVE-INFOT", Word::RetrieveInfo, "RETRIEVE-ERROR"),
    ("SEARCH-FILE", Word::SearchFile, "SEARCH-ERROR"),
    ("DOWNLOAD", Word::Download, "DOWNLOAD-ERROR"),
    ("GET", Word::Get, "GET-DENIED"),
    ("ALL", Word::All, "ALL-DENIED"),
    ("QUERY", Word::Query, "QUERY-ERROR"),
    ("LOGOUT", Word::Logout, "LOGOUT-DENIED"),
    ("OUT", Word::Out, "OUT-DENIED"),
    ("DISCONNECT-CLIENT", Word::Disconnect, "DISCONNECT_CLIENT-DENIED"),
    ("FRIEND", Word::Friend, "FRIEND-DENIED"),
    ("CONFIRM", Word::Confirm, "CONFIRM-DENIED"),
    ("BUSY", Word::Busy, "BUSY-DENIED"),
    ("REQUEST", Word::Request, "REQUEST-DENIED"),
    ("RELAY", Word::Relay, "RELAY-DENIED"),
    ("PROFILE", Word::Profile, "PROFILE-DENIED"),
    ("CHAT", Word::Chat, "CHAT-DENIED"),
    ("SEND", Word::Send, "SEND-DENIED"),
    ("MSG", Word::Message, "MSG-DENIED"),
    ("BRD", Word::Broadcast, "BRD-DENIED"),
    ("LIN", Word::LogIn, "LIN-DENIED"),
    ("ONL", Word::Online, "ONL-DENIED"),
    ("BLC", Word::Block, "BLC-DENIED"),
    ("HEY", Word::Heartbeat, "HEY-DENIED"),
    ("GET-CLIENT-LIST", Word::ClientList, "GET_CLIENT_LIST-DENIED"),
    ("GET-CLIENT-INFO", Word::ClientInfo, "GET_CLIENT_INFO-DENIED"),
    ("OPEN-SESSION", Word::OpenSession, "OPEN_SESSION-DENIED"),
    ("CLOSE-SESSION", Word::CloseSession, "CLOSE_SESSION-DENIED"),
    ("ACK", Word::Acknowledge, "ERROR"),
    ("DELIVERED", Word::Acknowledge, "ERROR"),
    ("FILE", Word::File, "ERROR"),
    ("FILE-END", Word::FileEnd, "ERROR"),
];

impl Word {
    /// The word that is written so: in capitals, with dashes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        WORDS.iter().find(|(written, ..)| *written == text).map(|(_, word, _)| *word)
    }

    /// The type of the answer that says no.
    #[must_use]
    pub fn denial(self) -> &'static str {
        WORDS.iter().find(|(_, word, _)| *word == self).map_or("ERROR", |(.., denial)| denial)
    }

    /// Whether `name` is the sender's own in this message, and not somebody that it is about.
    #[must_use]
    pub fn is_by_name(self) -> bool {
        match self {
            Self::Register
            | Self::Deregister
            | Self::UpdateContact
            | Self::Publish
            | Self::Remove
            | Self::Logout
            | Self::Out
            | Self::Disconnect
            | Self::LogIn
            | Self::Heartbeat
            | Self::Broadcast
            | Self::Online
            | Self::ClientList
            | Self::RetrieveAll
            | Self::SearchFile
            | Self::Acknowledge
            | Self::File
            | Self::FileEnd => true,
            Self::RetrieveInfo
            | Self::Download
            | Self::Get
            | Self::All
            | Self::Query
            | Self::Friend
            | Self::Confirm
            | Self::Busy
            | Self::Request
            | Self::Relay
            | Self::Profile
            | Self::Chat
            | Self::Send
            | Self::Message
            | Self::Block
            | Self::ClientInfo
            | Self::OpenSession
            | Self::CloseSession => false,
        }
    }
}

/// What somebody asks. Names and texts are as they came; lists go on after so many rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// To be here under a name, with its password if it has one.
    Register {
        /// The name.
        name: String,
        /// The password.
        password: Option<String>,
    },
    /// To be here under a name with a password, in place of whoever is.
    LogIn {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// To go, and leave the name to anybody.
    Deregister,
    /// To go, and keep the name.
    Logout,
    /// To be reached here.
    UpdateContact,
    /// That one is there.
    Heartbeat,
    /// To have files that are fetched from the sender.
    Publish {
        /// Their names.
        files: Vec<String>,
        /// What is in the only one, if the message says so.
        text: Option<String>,
    },
    /// To have them no longer.
    Remove {
        /// Their names.
        files: Vec<String>,
    },
    /// Everybody with their files.
    RetrieveAll {
        /// Rows that came before.
        after: u32,
    },
    /// One person with their files.
    RetrieveInfo {
        /// Who.
        name: String,
        /// Rows that came before.
        after: u32,
    },
    /// Who has a file.
    SearchFile {
        /// Its name.
        file: String,
        /// Rows that came before.
        after: u32,
    },
    /// A file.
    Download {
        /// Whose; anybody's when there is none.
        owner: Option<String>,
        /// Its name.
        file: String,
    },
    /// Where somebody is.
    Query {
        /// Who.
        name: String,
    },
    /// How somebody is reached, in the words of another system.
    ClientInfo {
        /// Who.
        name: String,
    },
    /// Who is here.
    Online {
        /// Rows that came before.
        after: u32,
    },
    /// Who is here, in the words of another system.
    ClientList {
        /// Rows that came before.
        after: u32,
    },
    /// To be friends.
    Friend {
        /// With whom.
        to: String,
    },
    /// That the answer comes later.
    Busy {
        /// To whom.
        to: String,
    },
    /// A profile.
    Profile {
        /// Whose; the sender's when there is none.
        name: Option<String>,
        /// The friend who is asked for it.
        via: Option<String>,
        /// Rows that came before.
        after: u32,
    },
    /// To change the sender's profile.
    EditProfile {
        /// What they want to be called.
        display_name: Option<String>,
        /// What they say about themselves.
        info: Option<String>,
    },
    /// To say something, and `DELIVERED` when it has arrived.
    Chat {
        /// To whom.
        to: String,
        /// What.
        text: String,
    },
    /// To say something.
    Send {
        /// To whom.
        to: String,
        /// What.
        text: String,
    },
    /// To say something to everybody.
    Broadcast {
        /// What.
        text: String,
    },
    /// To keep somebody out, or not any more.
    Block {
        /// Whom.
        to: String,
        /// Whether to.
        block: bool,
    },
    /// Somebody's address, if they allow it.
    Address {
        /// Whose.
        to: String,
    },
    /// To let somebody have the sender's address, or not.
    Allow {
        /// Whom.
        to: String,
        /// Whether to.
        allow: bool,
    },
    /// To talk with nobody else.
    OpenSession {
        /// With whom.
        to: String,
    },
    /// To end that.
    CloseSession {
        /// With whom.
        to: String,
    },
    /// That a message of ours has come, or a chunk.
    Acknowledge {
        /// Which chunk.
        chunk: Option<u32>,
    },
    /// A chunk of a file that we have asked for.
    Chunk {
        /// Which.
        chunk: u32,
        /// What is in it.
        text: String,
        /// Whether no more follow.
        is_last: bool,
    },
    /// That a file does not come that we have asked for.
    NotBrought {
        /// Why.
        reason: String,
    },
}

impl Ask {
    /// Reads what a message asks.
    pub(super) fn read(word: Word, fields: &Object) -> Result<Self, String> {
        let after = || Ok::<_, String>(fields.number("after")?.unwrap_or(0));
        Ok(match word {
            Word::Register => Self::Register { name: fields.needed("name")?, password: fields.text("password")? },
            Word::LogIn => Self::LogIn { name: fields.needed("name")?, password: fields.needed("password")? },
            Word::Deregister => Self::Deregister,
            Word::Logout | Word::Out | Word::Disconnect => Self::Logout,
            Word::UpdateContact => Self::UpdateContact,
            Word::Heartbeat => Self::Heartbeat,
            Word::Publish => publish(fields)?,
            Word::Remove => Self::Remove { files: files(fields)? },
            Word::RetrieveAll => Self::RetrieveAll { after: after()? },
            Word::RetrieveInfo => Self::RetrieveInfo { name: person(fields)?, after: after()? },
            Word::SearchFile => Self::SearchFile { file: fields.needed("filename")?, after: after()? },
            Word::Download => download(fields)?,
            Word::Get if fields.has("filename") => download(fields)?,
            Word::Get => Self::Address { to: person(fields)? },
            Word::All if fields.has("to") || fields.has("name") => {
                Self::Allow { to: person(fields)?, allow: fields.choice("allow", true)? }
            }
            Word::All => Self::RetrieveAll { after: after()? },
            Word::Query => Self::Query { name: person(fields)? },
            Word::ClientInfo => Self::ClientInfo { name: person(fields)? },
            Word::Online => Self::Online { after: after()? },
            Word::ClientList => Self::ClientList { after: after()? },
            Word::Friend | Word::Confirm => Self::Friend { to: person(fields)? },
            Word::Busy => Self::Busy { to: person(fields)? },
            Word::Request | Word::Relay | Word::Profile => profile(word, fields, after()?)?,
            Word::Chat => Self::Chat { to: person(fields)?, text: fields.needed("text")? },
            Word::Send | Word::Message => Self::Send { to: person(fields)?, text: fields.needed("text")? },
            Word::Broadcast => Self::Broadcast { text: fields.needed("text")? },
            Word::Block => Self::Block { to: person(fields)?, block: fields.choice("block", true)? },
            Word::OpenSession => Self::OpenSession { to: person(fields)? },
            Word::CloseSession => Self::CloseSession { to: person(fields)? },
            Word::Acknowledge => Self::Acknowledge { chunk: fields.number("chunk")? },
            Word::File | Word::FileEnd => chunk(fields, word == Word::FileEnd)?,
        })
    }
}

/// Somebody whom a message is about: `to`, or `name` where that is not the sender.
fn person(fields: &Object) -> Result<String, String> {
    match fields.text("to")? {
        Some(to) => Ok(to),
        None => fields.text("name")?.ok_or_else(|| "the field to is missing".to_owned()),
    }
}

fn files(fields: &Object) -> Result<Vec<String>, String> {
    let files = if fields.has("filename") { vec![fields.needed("filename")?] } else { fields.texts("files")? };
    if files.is_empty() || files.len() > LEGACY_JSON_FILES_MAX {
        return Err(format!("a message names 1 to {LEGACY_JSON_FILES_MAX} files"));
    }
    Ok(files)
}

fn publish(fields: &Object) -> Result<Ask, String> {
    let (files, text) = (files(fields)?, fields.text("text")?);
    if text.is_some() && files.len() > 1 {
        return Err("a message with a text names one file".to_owned());
    }
    Ok(Ask::Publish { files, text })
}

fn download(fields: &Object) -> Result<Ask, String> {
    let owner = if fields.has("to") || fields.has("name") { Some(person(fields)?) } else { None };
    Ok(Ask::Download { owner, file: fields.needed("filename")? })
}

fn profile(word: Word, fields: &Object, after: u32) -> Result<Ask, String> {
    let (display_name, info) = (fields.text("displayname")?, fields.text("info")?);
    if word == Word::Profile && (display_name.is_some() || info.is_some()) {
        return Ok(Ask::EditProfile { display_name, info });
    }
    let name = if word == Word::Profile { fields.text("name")? } else { Some(fields.needed("name")?) };
    let via = if word == Word::Relay { Some(fields.needed("to")?) } else { fields.text("via")? };
    Ok(Ask::Profile { name, via, after })
}

fn chunk(fields: &Object, is_last: bool) -> Result<Ask, String> {
    let chunk = fields.number("chunk")?.ok_or("the field chunk is missing")?;
    Ok(Ask::Chunk { chunk, text: fields.needed("text")?, is_last })
}
