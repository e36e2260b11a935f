//! Progress on the screen: a bar, or a line once in a while where no bar can be drawn. `output.rs` prints it.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::{per_second, printable};
use super::paths;
use crate::peer::path::PathInfo;
use crate::peer::rows::{Activity, Counted};

/// The progress that is on the screen.
#[derive(Default)]
pub(super) struct Bar {
    drawn: Option<Drawn>,
    /// Where bars cannot be drawn: what was printed last.
    printed: Option<Printed>,
}

/// How far something is.
#[derive(Clone, Copy)]
pub(super) struct Amount {
    pub(super) done: u64,
    pub(super) total: u64,
    /// Of a folder.
    pub(super) files: Option<Counted>,
}

impl Amount {
    /// The files of a folder, for after the bytes: `, 812/2,000 files`.
    fn count(self) -> String {
        self.files
            .map_or_else(String::new, |files| format!(", {}/{} files", HumanCount(files.done), HumanCount(files.total)))
    }
}

/// Progress as a bar.
struct Drawn {
    title: String,
    bar: ProgressBar,
    last: Instant,
}

/// Of several things that move at once one is on the screen, until it is done or stands still for so long.
const PROGRESS_TURN: Duration = Duration::from_secs(1);

/// Progress as lines.
struct Printed {
    title: String,
    /// When and with how many bytes it began: what an earlier transfer left is no speed of this one.
    began: (Instant, u64),
    last: Instant,
    /// When it was heard of last.
    seen: Instant,
    /// When it moved last, and how far it was.
    moved: (Instant, u64),
    is_done: bool,
}

/// Often enough to see that it moves, seldom enough to leave the chat on the screen.
const PROGRESS_LINE_INTERVAL: Duration = Duration::from_secs(3);

/// What is done with what, and how the bytes go.
pub(super) fn title(activity: Activity, name: &str, via: Option<&PathInfo>) -> String {
    let verb = match activity {
        Activity::Hashing => "hashing",
        Activity::Checking => "checking",
        Activity::Receiving => "receiving",
        Activity::Sending => "sending",
    };
    let via = via.map_or_else(String::new, |via| format!(" ({})", paths::kind(via)));
    format!("{verb} {}{via}", printable(name))
}

impl Drawn {
    /// Whether others have to wait until this is done.
    fn keeps_turn(&self, now: Instant) -> bool {
        self.bar.length().is_some_and(|total| self.bar.position() < total) && now - self.last < PROGRESS_TURN
    }
}

impl Bar {
    /// Removes what is drawn.
    pub(super) fn clear(&mut self) {
        if let Some(Drawn { bar, .. }) = self.drawn.take() {
            bar.finish_and_clear();
        }
    }

    /// Draws how far something is, unless something else has its turn.
    pub(super) fn draw(&mut self, title: String, amount @ Amount { done, total, .. }: Amount) {
        let now = Instant::now();
        let is_other = |drawn: &Drawn| drawn.title != title;
        if self.drawn.as_ref().is_some_and(|drawn| is_other(drawn) && drawn.keeps_turn(now)) {
            return;
        }
        if self.drawn.as_ref().is_none_or(is_other) {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %  {binary_bytes_per_sec}  {eta} left");
            bar.set_style(style.expect("the template is constant and was seen to parse"));
            // What was here before is no speed of this transfer.
            bar.set_position(done);
            bar.reset_eta();
            if let Some(Drawn { bar: before, .. }) = self.drawn.replace(Drawn { title, bar, last: now }) {
                before.finish_and_clear();
            }
        }
        if let Some(Drawn { title, bar, last }) = &mut self.drawn {
            bar.set_message(format!("{title}{}", amount.count()));
            bar.set_position(done);
            *last = now;
        }
    }

    /// A line of progress once in a while, for screens where a bar cannot be drawn.
    pub(super) fn line_due(&mut self, title: String, amount @ Amount { done, total, .. }: Amount) -> Option<String> {
        let now = Instant::now();
        let keeps_turn = |printed: &Printed| !printed.is_done && now - printed.seen < PROGRESS_TURN;
        if self.printed.as_ref().is_some_and(|printed| printed.title != title && keeps_turn(printed)) {
            return None;
        }
        // What went back or stood still for long has begun anew.
        let goes_on = |printed: &&mut Printed| {
            let (moved_at, moved_to) = printed.moved;
            printed.title == title && moved_to <= done && now - moved_at < 2 * PROGRESS_LINE_INTERVAL
        };
        let Some(printed) = self.printed.as_mut().filter(goes_on) else {
            // The first line comes later: a fast transfer needs none.
            let (began, moved, is_done) = ((now, done), (now, done), done >= total);
            self.printed = Some(Printed { title, began, last: now, seen: now, moved, is_done });
            return None;
        };
        (printed.seen, printed.is_done) = (now, done >= total);
        if done > printed.moved.1 {
            printed.moved = (now, done);
        }
        if now - printed.last < PROGRESS_LINE_INTERVAL {
            return None;
        }
        printed.last = now;
        let (began, before) = printed.began;
        let millis = u64::try_from((now - began).as_millis()).unwrap_or(u64::MAX);
        let speed = per_second(done.saturating_sub(before), millis);
        let percent = done * 100 / total.max(1);
        let left = total
            .saturating_sub(done)
            .checked_div(speed)
            .map_or_else(String::new, |seconds| format!("  {} left", HumanDuration(Duration::from_secs(seconds))));
        Some(format!("* {title}: {percent} %{}  {}/s{left}", amount.count(), HumanBytes(speed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_a_folder_counts_files_and_keeps_the_screen_until_it_is_done() {
        let counted = |done| Some(Counted { done, total: 2_000 });
        let amount = |done, files| Amount { done, total: 100, files };
        assert_eq!(amount(1, counted(812)).count(), ", 812/2,000 files");
        assert_eq!(amount(1, None).count(), "");

        let mut bar = Bar::default();
        let title = |bar: &Bar| bar.drawn.as_ref().map(|drawn| drawn.title.clone()).unwrap();
        bar.draw("receiving a".to_owned(), amount(50, None));
        bar.draw("receiving b".to_owned(), amount(10, None));
        assert_eq!(title(&bar), "receiving a");
        bar.draw("receiving a".to_owned(), amount(100, None));
        bar.draw("receiving b".to_owned(), amount(20, None));
        assert_eq!(title(&bar), "receiving b");
    }
}
