//! One thread that owns a SQLite database and commits in groups: what waits together is made durable together.
//!
//! ```text
//! job --queue--> BEGIN, (SAVEPOINT, job, RELEASE or ROLLBACK TO) for each that waits, COMMIT --> all answers
//! ```
//! No answer is given before its commit is on disk. Knows no table; the layers that bring SQL bring migrations too.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, thread};

use rusqlite::{Connection, ErrorCode, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot, watch};

/// Jobs that wait; further callers wait before the queue.
const QUEUE_JOBS_MAX: usize = 1_024;

/// Jobs in one transaction: enough to share an fsync among, few enough that the first does not wait long.
const BATCH_JOBS_MAX: usize = 256;

/// How long to wait for another process that writes the same file, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be created.
    #[error("cannot create the database {path}: {source}")]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The file cannot be opened, is no database, or does not take its migrations.
    #[error("cannot open the database {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Arc<rusqlite::Error>,
    },
    /// A newer version of the program has written it.
    #[error("the database {path} has schema {found}, this version of qchat knows {known}")]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Migrations that were applied to it.
        found: usize,
        /// Migrations that this program has.
        known: usize,
    },
    /// The operating system gave no thread.
    #[error("cannot start the database thread: {0}")]
    Thread(Arc<io::Error>),
    /// A statement or the commit failed, and nothing of the job was written.
    #[error("the database failed: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// The database was closed, or the job panicked, before there was an answer.
    #[error("the database was closed before it answered")]
    Stopped,
}

impl DatabaseError {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Open { source, .. } | Self::Sqlite(source) => source.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Create { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::TooNew { .. } | Self::Thread(_) | Self::Stopped => false,
        }
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// A handle on the thread; the thread ends when the last handle is dropped and all jobs are done.
#[derive(Debug, Clone)]
pub struct Database {
    jobs: mpsc::Sender<Job>,
    /// Closed by the thread when it has closed the file.
    ended: watch::Receiver<()>,
}

/// Runs on the connection, or takes the reason why it cannot; the answer waits in the outcome.
type Job = Box<dyn FnOnce(Result<&Connection, DatabaseError>) -> Outcome + Send>;

/// A job that has run and not been answered.
struct Outcome {
    written: Written,
    answer: Answer,
}

/// Sends a job's result to its caller, or the error by which its batch was lost.
type Answer = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;

/// What is to happen to a job's own changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Keep,
    RollBack,
}

impl Database {
    /// Opens a database, creating it for its owner only (0600), and applies the migrations it does not have yet, each
    /// in its own transaction. `PRAGMA user_version` counts those it has. Blocks until all is done.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be used or is of a newer version.
    pub fn open(path: &Path, migrations: &'static [&'static str]) -> Result<Self, DatabaseError> {
        create(path).map_err(|source| DatabaseError::Create { path: path.to_owned(), source: Arc::new(source) })?;
        let failed = |source| DatabaseError::Open { path: path.to_owned(), source: Arc::new(source) };
        let mut connection = Connection::open(path).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        let (found, known) = (migrate(&mut connection, migrations).map_err(failed)?, migrations.len());
        if found > known {
            return Err(DatabaseError::TooNew { path: path.to_owned(), found, known });
        }
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (alive, ended) = watch::channel(());
        thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || {
                serve(&connection, queue);
                // In this order: whoever waits for the end finds the file closed.
                drop(connection);
                drop(alive);
            })
            .map_err(|error| DatabaseError::Thread(Arc::new(error)))?;
        Ok(Self { jobs, ended })
    }

    /// Runs a job on the database's thread, inside a transaction it shares with others, and answers once that is
    /// durable. What a failing job wrote is rolled back, alone. The job may not begin or end transactions itself.
    /// A caller that stops waiting does not stop the job.
    ///
    /// # Errors
    /// The job's own, or [`DatabaseError`] when the batch could not be committed or the database is closed.
    pub async fn run<R, E>(&self, job: impl FnOnce(&Connection) -> Result<R, E> + Send + 'static) -> Result<R, E>
    where
        R: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move |database: Result<&Connection, DatabaseError>| {
            let result = database.map_err(E::from).and_then(job);
            let written = if result.is_ok() { Written::Keep } else { Written::RollBack };
            let answer = Box::new(move |committed: Result<(), DatabaseError>| {
                let answer = result.and_then(|value| committed.map(|()| value).map_err(E::from));
                // A caller that has stopped waiting needs no answer.
                drop(sender.send(answer));
            });
            Outcome { written, answer }
        });
        self.jobs.send(job).await.map_err(|_| DatabaseError::Stopped)?;
        receiver.await.unwrap_or_else(|_| Err(DatabaseError::Stopped.into()))
    }

    /// Drops this handle and waits until the thread has done all jobs and closed the file: which is when the other
    /// handles are dropped too.
    pub async fn close(self) {
        let Self { jobs, mut ended } = self;
        drop(jobs);
        while ended.changed().await.is_ok() {}
    }
}

/// Creates the file before SQLite does, which would let others read it. SQLite gives its side files the same mode.
fn create(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted, such as the secret of an old prekey, is overwritten and not only forgotten.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "foreign_keys", "ON")
}

/// Applies what is missing, and returns how many migrations the database has: more than we know if it is newer.
fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<usize> {
    loop {
        // Immediate, so that two programs that start at once do not both apply it.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let applied: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let found = usize::try_from(applied).unwrap_or(usize::MAX);
        let Some(migration) = migrations.get(found) else { return Ok(found) };
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", applied + 1)?;
        transaction.commit()?;
    }
}

/// The thread: takes one job, and all that wait behind it, until no handle is left.
fn serve(connection: &Connection, mut queue: mpsc::Receiver<Job>) {
    let mut batch = VecDeque::new();
    while let Some(first) = queue.blocking_recv() {
        batch.push_back(first);
        while batch.len() < BATCH_JOBS_MAX
            && let Ok(next) = queue.try_recv()
        {
            batch.push_back(next);
        }
        while !batch.is_empty() {
            run_batch(connection, &mut batch);
        }
    }
}

/// Runs jobs in one transaction and answers them after it. Those that are left over are to have a new one, because
/// one before them lost this one.
fn run_batch(connection: &Connection, batch: &mut VecDeque<Job>) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        return refuse_batch(batch, &error.into());
    }
    let mut answers = Vec::with_capacity(batch.len());
    let committed = run_and_commit(connection, batch, &mut answers);
    if committed.is_err() && !connection.is_autocommit() {
        roll_back(connection);
    }
    for answer in answers {
        answer(committed.clone());
    }
}

fn refuse_batch(batch: &mut VecDeque<Job>, error: &DatabaseError) {
    for job in batch.drain(..) {
        let outcome = job(Err(error.clone()));
        (outcome.answer)(Ok(()));
    }
}

fn run_and_commit(
    connection: &Connection,
    batch: &mut VecDeque<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), DatabaseError> {
    while let Some(job) = batch.pop_front() {
        run_job(connection, job, answers)?;
    }
    Ok(connection.execute_batch("COMMIT")?)
}

/// Runs one job inside its savepoint. An error means that the whole transaction is lost.
fn run_job(connection: &Connection, job: Job, answers: &mut Vec<Answer>) -> Result<(), DatabaseError> {
    let begun = connection.execute_batch("SAVEPOINT job").map(|()| connection).map_err(DatabaseError::from);
    // A job that panics drops its sender, so its caller gets `Stopped`.
    let written = match catch_unwind(AssertUnwindSafe(|| job(begun))) {
        Ok(outcome) => {
            answers.push(outcome.answer);
            outcome.written
        }
        Err(_) => Written::RollBack,
    };
    // SQLite itself ends the transaction on a full disk and the like; going on would commit each statement alone.
    if connection.is_autocommit() {
        return Err(transaction_lost());
    }
    Ok(connection.execute_batch(match written {
        Written::Keep => "RELEASE job",
        Written::RollBack => "ROLLBACK TO job; RELEASE job",
    })?)
}

/// Ends a transaction that cannot be committed.
fn roll_back(connection: &Connection) {
    if let Err(error) = connection.execute_batch("ROLLBACK") {
        tracing::error!(%error, "cannot roll a database transaction back");
    }
}

/// What the other jobs of a batch are told when one of them made SQLite drop the transaction.
fn transaction_lost() -> DatabaseError {
    let error = ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK);
    rusqlite::Error::SqliteFailure(error, Some("another change made the transaction fail".to_owned())).into()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use tempfile::TempDir;
    use tokio::task::JoinSet;

    use super::*;

    const MIGRATIONS: &[&str] = &["CREATE TABLE line (text TEXT PRIMARY KEY)", "ALTER TABLE line ADD COLUMN n INTEGER"];

    type Change = Box<dyn FnOnce(&Connection) -> Result<()> + Send>;
    type Result<T> = std::result::Result<T, DatabaseError>;

    fn opened() -> (TempDir, PathBuf, Database) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.sqlite");
        let database = Database::open(&path, MIGRATIONS).unwrap();
        (folder, path, database)
    }

    fn insert(text: &'static str) -> impl FnOnce(&Connection) -> Result<()> + Send {
        move |connection| {
            connection.execute("INSERT INTO line (text) VALUES (?1)", [text])?;
            Ok(())
        }
    }

    /// What another program sees in the file.
    fn lines(path: &Path) -> Vec<String> {
        let connection = Connection::open(path).unwrap();
        let mut statement = connection.prepare("SELECT text FROM line ORDER BY text").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(std::result::Result::unwrap).collect()
    }

    /// Holds the thread up while the jobs come together, so that they make one batch.
    async fn together(database: &Database, jobs: Vec<Change>) -> Vec<Result<()>> {
        let (begun, holding) = oneshot::channel();
        let (go, wait) = blocking::channel::<()>();
        let mut set = JoinSet::new();
        let holder = database.clone();
        let hold = move |_: &Connection| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            Ok(())
        };
        set.spawn(async move { (0, holder.run(hold).await) });
        holding.await.unwrap();
        // One at a time, so that the order in the queue is known.
        for (index, job) in jobs.into_iter().enumerate() {
            let (database, before) = (database.clone(), database.jobs.capacity());
            let queue = database.jobs.clone();
            set.spawn(async move { (index + 1, database.run(job).await) });
            while queue.capacity() == before {
                tokio::task::yield_now().await;
            }
        }
        go.send(()).unwrap();
        let mut answers = set.join_all().await;
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().skip(1).map(|(_, answer)| answer).collect()
    }

    #[tokio::test]
    async fn values_survive_closing_and_opening() {
        let (_folder, path, database) = opened();
        database.run(insert("kept")).await.unwrap();
        database.close().await;
        let database = Database::open(&path, MIGRATIONS).unwrap();
        let text: Result<String> =
            database.run(|connection| Ok(connection.query_row("SELECT text FROM line", [], |row| row.get(0))?)).await;
        assert_eq!(text.unwrap(), "kept");
    }

    #[tokio::test]
    async fn an_answer_comes_after_the_commit() {
        let (_folder, path, database) = opened();
        database.run(insert("durable")).await.unwrap();
        assert_eq!(lines(&path), ["durable"]);
    }

    #[tokio::test]
    async fn a_failing_job_is_rolled_back_alone() {
        let (_folder, path, database) = opened();
        let answers = together(
            &database,
            vec![
                Box::new(insert("a")),
                Box::new(|connection| {
                    insert("b")(connection)?;
                    insert("a")(connection)
                }),
                Box::new(insert("c")),
            ],
        )
        .await;
        assert_eq!(answers.iter().map(std::result::Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(lines(&path), ["a", "c"]);
    }

    #[tokio::test]
    async fn jobs_that_wait_together_are_committed_together() {
        let (_folder, path, database) = opened();
        let seen = path.clone();
        let look = move |_: &Connection| {
            assert!(lines(&seen).is_empty(), "the first job was committed before the last one ran");
            Ok(())
        };
        let answers = together(&database, vec![Box::new(insert("first")), Box::new(look)]).await;
        assert!(answers.iter().all(std::result::Result::is_ok), "{answers:?}");
        assert_eq!(lines(&path), ["first"]);
    }

    #[tokio::test]
    async fn a_lost_transaction_fails_those_in_it_and_the_next_ones_get_a_new_one() {
        let (_folder, path, database) = opened();
        // As SQLite does it on a full disk.
        let lose = |connection: &Connection| Ok(connection.execute_batch("ROLLBACK")?);
        let answers =
            together(&database, vec![Box::new(insert("before")), Box::new(lose), Box::new(insert("after"))]).await;
        assert_eq!(answers.iter().map(std::result::Result::is_ok).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(lines(&path), ["after"]);
    }

    #[tokio::test]
    async fn a_commit_that_fails_fails_every_job_of_the_batch() {
        let (_folder, path, database) = opened();
        let dangle = |connection: &Connection| {
            connection.execute_batch(
                "CREATE TABLE child (line TEXT REFERENCES line (text) DEFERRABLE INITIALLY DEFERRED);
                 INSERT INTO child VALUES ('nobody');",
            )?;
            Ok(())
        };
        let answers = together(&database, vec![Box::new(insert("a")), Box::new(dangle)]).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(DatabaseError::Sqlite(_)))), "{answers:?}");
        assert!(lines(&path).is_empty());
        database.run(insert("b")).await.unwrap();
        assert_eq!(lines(&path), ["b"]);
    }

    #[tokio::test]
    async fn a_panic_in_a_job_stops_nobody_else() {
        let (_folder, path, database) = opened();
        let answer = database
            .run(|connection| {
                insert("half")(connection)?;
                if connection.is_autocommit() { Ok(()) } else { panic!("a job with a bug") }
            })
            .await;
        assert!(matches!(answer, Err(DatabaseError::Stopped)));
        database.run(insert("whole")).await.unwrap();
        assert_eq!(lines(&path), ["whole"]);
    }

    #[tokio::test]
    async fn closing_waits_for_the_jobs_that_were_queued() {
        let (_folder, path, database) = opened();
        let other = database.clone();
        let mut set = JoinSet::new();
        set.spawn(async move { other.run(insert("late")).await });
        tokio::task::yield_now().await;
        database.close().await;
        assert_eq!(lines(&path), ["late"]);
        set.join_all().await.pop().unwrap().unwrap();
    }

    #[test]
    fn a_database_of_a_newer_version_is_left_alone() {
        let (_folder, path, database) = opened();
        drop(database);
        let error = Database::open(&path, &MIGRATIONS[..1]).unwrap_err();
        assert!(matches!(error, DatabaseError::TooNew { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.sqlite");
        let error = Database::open(&path, &["CREATE TABLE a (b)", "CREATE TABLE c (d); nonsense"]).unwrap_err();
        assert!(matches!(error, DatabaseError::Open { .. }), "{error}");
        drop(Database::open(&path, &["CREATE TABLE a (b)", "CREATE TABLE c (d)"]).unwrap());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_may_read_the_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, _path, database) = opened();
        database.run(insert("secret")).await.unwrap();
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let failure = |code| DatabaseError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(failure(ffi::SQLITE_FULL).is_full());
        assert!(!failure(ffi::SQLITE_BUSY).is_full());
        assert!(!DatabaseError::Stopped.is_full());
    }
}
