//! What claims take from: carriers (processes that already sit in control groups of their own) and blanks (sandboxes that
//! have started but have no image yet). Kept ready up to a bound, made on demand when none is, and never made in the
//! background while a claim is under way.

use crate::cgroup::{Cgroup, Layout};
use crate::channel::{self, Channel};
use crate::room::{Listeners, first_word};
use crate::spare::{Spare, Spares};
use crate::zygote::{Carrier, Spawned, Zygote, system};
use greenroom_sandbox::{Error, Result};
use greenroom_stage::protocol::AttachPlan;
use rustix::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex as AsyncMutex;

/// Blanks that may be asked for.
pub const MAX_BLANKS: usize = 128;
/// A provider does not open before so many are there; the others follow when nobody waits.
const FIRST_BLANKS: usize = 8;
/// Of them so many, but at most a quarter, are not furnished: for claims that bring their files, for which furniture would
/// only have to be carried out again.
const PLAIN_BLANKS: usize = 2;
const TMP_BYTES: u64 = 2 << 30;
/// Carriers kept ready. Moving a process into a control group takes the kernel about 7 ms during which nothing on the
/// machine can fork, but a second one right behind it almost nothing: so it is done in advance, by the batch, and not
/// while a session is just starting.
const CARRIERS: usize = 32;
const FEW_CARRIERS: usize = 16;
/// So long no claim may have been made before blanks, and before carriers, are made again …
const BLANK_PAUSE: Duration = Duration::from_millis(30);
const CARRIER_PAUSE: Duration = Duration::from_millis(150);
/// … unless claims never pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A process that will make one sandbox, and the groups it is in.
#[derive(Debug)]
struct Place {
    carrier: Carrier,
    group: Option<Cgroup>,
}

/// A started sandbox without an image. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Blank {
    pub(crate) channel: Channel,
    pub(crate) listeners: Listeners,
    pub(crate) stage: Spawned,
    pub(crate) group: Option<Cgroup>,
    /// The workspace that it was furnished with.
    pub(crate) spare: Option<Spare>,
    carrier: Carrier,
}

/// A sandbox whose stage is still starting. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Unborn {
    channel: Channel,
    stage: Spawned,
    pub(crate) group: Option<Cgroup>,
    carrier: Carrier,
}

impl Unborn {
    /// Its image is mounted while stage starts. On failure nothing is left.
    pub(crate) async fn attach(self, plan: AttachPlan) -> Result<Attached> {
        let Self { channel, stage, group, carrier } = self;
        let (listeners, attached) = tokio::join!(first_word(&channel), carrier.attach(plan));
        // What stage says of a failure is the cause, not what the carrier finds of it.
        let listeners = listeners?;
        attached?;
        Ok(Attached { channel, listeners, stage, group, was_ready: false })
    }
}

/// What a blank is once it has its image.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) channel: Channel,
    pub(crate) listeners: Listeners,
    pub(crate) stage: Spawned,
    pub(crate) group: Option<Cgroup>,
    pub(crate) was_ready: bool,
}

impl Blank {
    /// On failure nothing is left.
    pub(crate) async fn attach(self, plan: AttachPlan) -> Result<Attached> {
        let Self { channel, listeners, stage, group, spare: _, carrier } = self;
        carrier.attach(plan).await?;
        Ok(Attached { channel, listeners, stage, group, was_ready: true })
    }

    fn is_alive(&self) -> bool {
        self.stage.is_alive() && self.carrier.process.is_alive()
    }
}

#[derive(Debug)]
pub(crate) struct Stock {
    is_user_mode: bool,
    pub(crate) cgroups: Layout,
    /// None after it died; whoever needs one next starts another.
    zygote: AsyncMutex<Option<Zygote>>,
    /// None where nothing is known of the file system that workspaces will lie on.
    spares: Option<Arc<Spares>>,
    shelf: Mutex<Shelf>,
    wanted: AtomicUsize,
    /// Claims under way.
    claims: AtomicUsize,
    is_refilling: AtomicBool,
}

#[derive(Debug)]
struct Shelf {
    places: Vec<Place>,
    blanks: Vec<Blank>,
    last_claim: Instant,
    is_closed: bool,
}

/// While it lives, nothing is made in the background.
#[derive(Debug)]
pub(crate) struct Claiming(Arc<Stock>);

impl Drop for Claiming {
    fn drop(&mut self) {
        self.0.shelf().last_claim = Instant::now();
        if self.0.claims.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.refill();
        }
    }
}

impl Stock {
    /// With its first carriers and blanks.
    pub(crate) async fn open(
        is_user_mode: bool,
        cgroups: Layout,
        zygote: Zygote,
        spares: Option<Spares>,
        blanks: usize,
    ) -> Result<Arc<Self>> {
        let shelf =
            Shelf { places: Vec::new(), blanks: Vec::new(), last_claim: Instant::now(), is_closed: false };
        let stock = Arc::new(Self {
            is_user_mode,
            cgroups,
            zygote: AsyncMutex::new(Some(zygote)),
            spares: spares.map(Arc::new),
            shelf: Mutex::new(shelf),
            wanted: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
            is_refilling: AtomicBool::new(false),
        });
        stock.fill_places().await?;
        check_count(blanks)?;
        stock.wanted.store(blanks, Ordering::Relaxed);
        stock.fill_blanks(blanks.min(FIRST_BLANKS)).await?;
        stock.fill_places().await?;
        stock.refill();
        Ok(stock)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Changed by single assignments, so it is whole even after a panic.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ready_blanks(&self) -> usize {
        self.shelf().blanks.iter().filter(|blank| blank.is_alive()).count()
    }

    pub(crate) fn begin_claim(self: &Arc<Self>) -> Claiming {
        self.claims.fetch_add(1, Ordering::Relaxed);
        Claiming(Arc::clone(self))
    }

    pub(crate) async fn set_blanks(&self, count: usize) -> Result<()> {
        check_count(count)?;
        self.wanted.store(count, Ordering::Relaxed);
        let surplus = {
            let mut shelf = self.shelf();
            let keep = count.min(shelf.blanks.len());
            shelf.blanks.split_off(keep)
        };
        discard(surplus.into_iter().map(|blank| blank.group)).await;
        self.fill_blanks(count).await
    }

    async fn fill_blanks(&self, count: usize) -> Result<()> {
        while self.lacks_blanks() && self.shelf().blanks.len() < count {
            self.add_blank().await?;
        }
        Ok(())
    }

    fn lacks_blanks(&self) -> bool {
        let shelf = self.shelf();
        !shelf.is_closed && shelf.blanks.len() < self.wanted.load(Ordering::Relaxed)
    }

    fn lacks_plain_blanks(&self) -> bool {
        let wanted = (self.wanted.load(Ordering::Relaxed) / 4).min(PLAIN_BLANKS);
        self.shelf().blanks.iter().filter(|blank| blank.spare.is_none()).count() < wanted
    }

    async fn add_blank(&self) -> Result<()> {
        let mut blank = self.new_blank().await?;
        if let Some(spares) = self.spares.as_ref().filter(|_| !self.lacks_plain_blanks()) {
            match furnish(&blank, spares).await {
                Ok(spare) => blank.spare = Some(spare),
                // It is a blank all the same; whoever claims it hears why its workspace cannot be made.
                Err(error) => tracing::debug!(%error, "a blank is not furnished"),
            }
        }
        let mut shelf = self.shelf();
        if !shelf.is_closed {
            shelf.blanks.push(blank);
        }
        Ok(())
    }

    /// One that was made in advance, furnished or not as the claim can use it, where there is one.
    pub(crate) fn ready(&self, furnished: bool) -> Option<Blank> {
        loop {
            let mut shelf = self.shelf();
            let fit = shelf.blanks.iter().rposition(|blank| blank.spare.is_some() == furnished);
            let blank = match fit {
                Some(index) => shelf.blanks.remove(index),
                None => shelf.blanks.pop()?,
            };
            drop(shelf);
            // Those of a zygote that died are dead too.
            if blank.is_alive() {
                return Some(blank);
            }
        }
    }

    async fn new_blank(&self) -> Result<Blank> {
        let Unborn { channel, stage, group, carrier } = self.begin().await?;
        let listeners = first_word(&channel).await?;
        Ok(Blank { channel, listeners, stage, group, spare: None, carrier })
    }

    /// Carriers of a zygote that has just died look alive for a moment: there is another one for each of them.
    pub(crate) async fn begin(&self) -> Result<Unborn> {
        for _ in 0..CARRIERS {
            match self.begin_in(self.take_place().await?).await {
                Err(Error::Ended { .. }) => {}
                begun => return begun,
            }
        }
        self.begin_in(self.take_place().await?).await
    }

    async fn begin_in(&self, place: Place) -> Result<Unborn> {
        let Place { carrier, group } = place;
        let (channel, theirs) = channel::pair().map_err(|error| system("socketpair", "stage", error))?;
        let stage = carrier.blank(TMP_BYTES, theirs).await?;
        Ok(Unborn { channel, stage, group, carrier })
    }

    async fn take_place(&self) -> Result<Place> {
        loop {
            let ready = self.shelf().places.pop();
            match ready {
                Some(place) if place.carrier.process.is_alive() => return Ok(place),
                Some(dead) => drop(dead),
                None => break,
            }
        }
        let made = self.make_places(1).await?.pop();
        made.ok_or_else(|| Error::Ended { reason: "the zygote made no carrier".into() })
    }

    async fn make_places(&self, count: usize) -> Result<Vec<Place>> {
        let mut carriers = Vec::with_capacity(count);
        {
            let mut slot = self.zygote.lock().await;
            for _ in 0..count {
                if self.shelf().is_closed {
                    return Err(Error::Ended { reason: "the provider has shut down".into() });
                }
                let mut carrier = started(&mut slot, self.is_user_mode).await?.carrier().await;
                if is_loss(&carrier) {
                    // It may have died long ago, unnoticed: once more with a new one.
                    carriers.clear();
                    *slot = None;
                    carrier = started(&mut slot, self.is_user_mode).await?.carrier().await;
                }
                carriers.push(carrier?);
            }
        }
        if self.cgroups.is_none() {
            return Ok(carriers.into_iter().map(|carrier| Place { carrier, group: None }).collect());
        }
        let cgroups = self.cgroups.clone();
        let attach = tokio::task::spawn_blocking(move || attach_all(&cgroups, carriers));
        attach.await.map_err(|error| Error::Ended { reason: error.to_string() })?
    }

    /// Where moving costs nothing, carriers are not kept either.
    async fn fill_places(&self) -> Result<()> {
        let lacking = CARRIERS.saturating_sub(self.shelf().places.len());
        if self.cgroups.is_none() || lacking == 0 {
            return Ok(());
        }
        let made = self.make_places(lacking).await?;
        let mut shelf = self.shelf();
        if !shelf.is_closed {
            shelf.places.extend(made);
            shelf.places.truncate(CARRIERS);
        }
        Ok(())
    }

    /// Fills up in the background, once the sessions that took something have had their start.
    pub(crate) fn refill(self: &Arc<Self>) {
        let is_due = self.lacks_blanks() || self.shelf().places.len() <= FEW_CARRIERS;
        if !is_due || self.shelf().is_closed || self.is_refilling.swap(true, Ordering::AcqRel) {
            return;
        }
        let stock = Arc::clone(self);
        tokio::spawn(async move {
            if let Ok(Err(error)) = greenroom_tasks::caught("making sandboxes in advance", stock.fill()).await
            {
                tracing::warn!(%error, "nothing could be made in advance");
            }
            stock.is_refilling.store(false, Ordering::Release);
        });
    }

    async fn fill(&self) -> Result<()> {
        let deadline = Instant::now() + LONGEST_PAUSE;
        while self.lacks_blanks() {
            self.wait_for_pause(BLANK_PAUSE, deadline).await;
            // Blanks are made of the carriers at hand; only then do new ones have to be moved.
            if self.shelf().places.is_empty() {
                self.wait_for_pause(CARRIER_PAUSE, deadline).await;
                self.fill_places().await?;
            }
            if self.lacks_blanks() {
                self.add_blank().await?;
            }
        }
        if self.shelf().places.len() <= FEW_CARRIERS {
            self.wait_for_pause(CARRIER_PAUSE, deadline).await;
            self.fill_places().await?;
        }
        Ok(())
    }

    async fn wait_for_pause(&self, pause: Duration, deadline: Instant) {
        loop {
            let now = Instant::now();
            let (last, is_closed) = {
                let shelf = self.shelf();
                (shelf.last_claim, shelf.is_closed)
            };
            let is_quiet = self.claims.load(Ordering::Relaxed) == 0 && last + pause <= now;
            if is_quiet || is_closed || now >= deadline {
                return;
            }
            tokio::time::sleep((last + pause).saturating_duration_since(now).max(BLANK_PAUSE / 4)).await;
        }
    }

    pub(crate) async fn rename(&self, hostname: String, stage: &Spawned) -> Result<()> {
        let mut slot = self.zygote.lock().await;
        let renamed = match slot.as_ref() {
            Some(zygote) => zygote.rename(hostname, stage.pidfd.as_fd()).await,
            None => Err(Error::Ended { reason: "the zygote is gone".into() }),
        };
        if is_loss(&renamed) {
            *slot = None;
        }
        renamed
    }

    /// Whether the zygote makes processes; one that died is replaced, as a claim would.
    pub(crate) async fn check(&self) -> Result<()> {
        let mut slot = self.zygote.lock().await;
        if self.shelf().is_closed {
            return Err(Error::Ended { reason: "the provider has shut down".into() });
        }
        let mut carrier = started(&mut slot, self.is_user_mode).await?.carrier().await;
        if is_loss(&carrier) {
            *slot = None;
            carrier = started(&mut slot, self.is_user_mode).await?.carrier().await;
        }
        carrier.map(drop)
    }

    pub(crate) async fn zygote_pid(&self) -> Option<u32> {
        self.zygote.lock().await.as_ref().map(Zygote::pid)
    }

    /// From now on nothing is made; what waits ends by itself.
    pub(crate) fn end(&self) -> (Vec<Option<Cgroup>>, Vec<Option<Cgroup>>) {
        let (places, blanks) = {
            let mut shelf = self.shelf();
            shelf.is_closed = true;
            (std::mem::take(&mut shelf.places), std::mem::take(&mut shelf.blanks))
        };
        let places = places.into_iter().map(|place| place.group).collect();
        (places, blanks.into_iter().map(|blank| blank.group).collect())
    }

    pub(crate) async fn close(&self) {
        let (places, blanks) = self.end();
        // Its lock is held by whoever is making something, so this waits for that.
        let zygote = self.zygote.lock().await.take();
        discard(places.into_iter().chain(blanks)).await;
        tokio::task::spawn_blocking(move || drop(zygote)).await.ok();
    }
}

fn check_count(blanks: usize) -> Result<()> {
    if blanks > MAX_BLANKS {
        return Err(Error::Invalid { reason: format!("at most {MAX_BLANKS} blanks are kept") });
    }
    Ok(())
}

async fn furnish(blank: &Blank, spares: &Arc<Spares>) -> Result<Spare> {
    let spares = Arc::clone(spares);
    let made = tokio::task::spawn_blocking(move || spares.make()).await;
    let spare = made.map_err(|error| Error::Ended { reason: error.to_string() })??;
    blank.carrier.furnish(crate::sandbox::text(spare.directory())?).await?;
    Ok(spare)
}

async fn started(slot: &mut Option<Zygote>, is_user_mode: bool) -> Result<&Zygote> {
    if slot.is_none() {
        *slot = Some(Zygote::start(is_user_mode).await?);
    }
    Ok(slot.as_ref().expect("set above"))
}

/// Whether an answer means that the zygote is of no more use.
fn is_loss<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Ended { .. } | Error::Deadline { .. } | Error::Protocol { .. }))
}

fn attach_all(cgroups: &Layout, carriers: Vec<Carrier>) -> Result<Vec<Place>> {
    let mut attached = Vec::with_capacity(carriers.len());
    for carrier in carriers {
        let group = cgroups.create()?;
        let pid = carrier.process.pid;
        group
            .as_ref()
            .map_or(Ok(()), |group| group.attach(pid))
            .map_err(|error| system("attach", format!("control group of {pid}"), error))?;
        attached.push(Place { carrier, group });
    }
    Ok(attached)
}

/// Removes groups whose processes are ending.
async fn discard(groups: impl Iterator<Item = Option<Cgroup>>) {
    for group in groups.flatten() {
        group.remove().await;
    }
}
