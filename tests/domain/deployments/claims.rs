//! Claims on names, when a store takes longer than they hold.

use portico::{
    base::health::Health,
    port::blobs::{Blob, Committed, Digest, Head, Listed, Range, Staged, Staging},
};
use tokio::sync::oneshot;

use super::*;
use crate::domain::time_stands;

/// How long a claim holds, and a little.
const CLAIM_OVER: Duration = Duration::from_secs(61);
/// How often one is renewed, and a little.
const RENEWAL_DUE: Duration = Duration::from_secs(16);
/// How far time goes on between two looks at a claim, and how often is looked: a renewal is due again well before.
const STEP: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 1_000;

/// Lets go of whoever has just stored something.
type Go = oneshot::Sender<()>;
type Stored = mpsc::UnboundedReceiver<Go>;

/// A disk where whoever has stored something hears of it when the test lets it go.
struct Slow {
    disk: Disk,
    stored: mpsc::UnboundedSender<Go>,
}

struct SlowStaging {
    staging: Box<dyn Staging>,
    stored: mpsc::UnboundedSender<Go>,
}

struct SlowStaged {
    staged: Box<dyn Staged>,
    stored: mpsc::UnboundedSender<Go>,
}

impl Blobs for Slow {
    fn stage<'a>(&'a self, key: Option<&'a str>) -> Answer<'a, Box<dyn Staging>> {
        Box::pin(async move {
            let (staging, stored) = (self.disk.stage(key).await?, self.stored.clone());
            Ok(Box::new(SlowStaging { staging, stored }) as Box<dyn Staging>)
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Head>> {
        self.disk.head(key)
    }

    fn get<'a>(&'a self, key: &'a str, range: Range) -> Answer<'a, Option<Blob>> {
        self.disk.get(key, range)
    }

    fn list<'a>(&'a self, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Answer<'a, Vec<Listed>> {
        self.disk.list(prefix, after, limit)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Answer<'a, ()> {
        self.disk.delete(key)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.disk.health()
    }
}

impl Staging for SlowStaging {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        self.staging.write(bytes)
    }

    fn seal(self: Box<Self>) -> Answer<'static, Box<dyn Staged>> {
        Box::pin(async move {
            let staged = self.staging.seal().await?;
            Ok(Box::new(SlowStaged { staged, stored: self.stored }) as Box<dyn Staged>)
        })
    }
}

impl Staged for SlowStaged {
    fn size(&self) -> u64 {
        self.staged.size()
    }

    fn digest(&self) -> Digest {
        self.staged.digest()
    }

    fn commit<'a>(&'a self, key: &'a str, metadata: Metadata) -> Answer<'a, Committed> {
        Box::pin(async move {
            let committed = self.staged.commit(key, metadata).await?;
            let (go, gone) = oneshot::channel();
            self.stored.send(go).unwrap();
            gone.await.unwrap();
            Ok(committed)
        })
    }
}

async fn slow_house() -> (House, Stored) {
    let (stored, heard) = mpsc::unbounded_channel();
    let house = House::over(Config::default(), None, |disk| Arc::new(Slow { disk: disk.clone(), stored })).await;
    (house, heard)
}

/// Lets the next one go that has stored something.
async fn let_go(stored: &mut Stored) {
    stored.recv().await.unwrap().send(()).unwrap();
}

#[tokio::test]
async fn a_claim_that_ran_out_while_nobody_else_uploads_is_no_obstacle() {
    let (house, mut stored) = slow_house().await;
    let file = bundle("one");
    let slowly = async {
        let go = stored.recv().await.unwrap();
        house.ground.clock.advance(CLAIM_OVER);
        go.send(()).unwrap();
    };
    let (uploaded, ()) = tokio::join!(house.upload("ann", "echo", "1.0.0", &file), slowly);
    assert!(!uploaded.unwrap().existing);
}

#[tokio::test]
async fn an_upload_that_lost_its_claim_takes_nothing_from_the_one_that_has_it() {
    let (house, mut stored) = slow_house().await;
    let (hers, his) = (bundle("hers"), bundle("his"));
    let (ended, hers_ended) = oneshot::channel();
    let late = async {
        let outcome = house.upload("ann", "echo", "1.0.0", &hers).await;
        ended.send(()).unwrap();
        outcome
    };
    let meanwhile = async {
        let ann = stored.recv().await.unwrap();
        house.ground.clock.advance(CLAIM_OVER);
        // The agent type becomes his, and then the very name: her bytes give way to his.
        let (other, ()) = tokio::join!(house.upload("bob", "echo", "2.0.0", &his), let_go(&mut stored));
        other.unwrap();
        let steps = async {
            let_go(&mut stored).await;
            let bob = stored.recv().await.unwrap();
            ann.send(()).unwrap();
            hers_ended.await.unwrap();
            bob.send(()).unwrap();
        };
        tokio::join!(house.upload("bob", "echo", "1.0.0", &his), steps).0
    };
    let (lost, won) = tokio::join!(late, meanwhile);
    refused(lost, reason::UPLOAD_IN_PROGRESS);
    let won = won.unwrap().deployment;
    let head = house.blobs.head(&won.blob_key).await.unwrap().expect("his bytes are there");
    assert_eq!(head.digest.to_string(), won.checksum);
}

#[tokio::test]
async fn an_upload_that_lost_its_claim_takes_nothing_from_one_that_has_ended() {
    let (house, mut stored) = slow_house().await;
    let (hers, his) = (bundle("hers"), bundle("his"));
    // Bytes that nobody was told of, which whoever comes replaces.
    let mut staging = house.blobs.stage(None).await.unwrap();
    staging.write(bundle("left")).await.unwrap();
    let key = "dev/deployments/echo/1.0.0/echo-1.0.0.tar.gz";
    staging.seal().await.unwrap().commit(key, Metadata::new()).await.unwrap();
    let meanwhile = async {
        let ann = stored.recv().await.unwrap();
        house.ground.clock.advance(CLAIM_OVER);
        let steps = async {
            let_go(&mut stored).await;
            let_go(&mut stored).await;
        };
        let (won, ()) = tokio::join!(house.upload("bob", "echo", "1.0.0", &his), steps);
        ann.send(()).unwrap();
        won.unwrap().deployment
    };
    let (lost, won) = tokio::join!(house.upload("ann", "echo", "1.0.0", &hers), meanwhile);
    refused(lost, reason::UPLOAD_IN_PROGRESS);
    let head = house.blobs.head(key).await.unwrap().expect("his bytes are there");
    assert_eq!(head.digest.to_string(), won.checksum);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_renewed_for_as_long_as_its_bundle_is_being_stored() {
    let (house, mut stored) = slow_house().await;
    let time = time_stands();
    let file = bundle("one");
    let until = async || house.ground.records.get("uploads", "echo:1.0.0").await.unwrap().unwrap().expires_at;
    let slowly = async {
        let go = stored.recv().await.unwrap();
        for _ in 0..5 {
            let before = until().await;
            house.ground.clock.advance(RENEWAL_DUE);
            tokio::time::advance(RENEWAL_DUE).await;
            // Who has just renewed may count from after that, so time goes on while nothing happens.
            for look in 0.. {
                if until().await != before {
                    break;
                }
                assert!(look < LOOKS_MAX, "the claim is not renewed");
                tokio::time::advance(STEP).await;
            }
        }
        refused(house.upload("bob", "echo", "1.0.0", &bundle("two")).await, reason::UPLOAD_IN_PROGRESS);
        go.send(()).unwrap();
    };
    let (uploaded, ()) = tokio::join!(house.upload("ann", "echo", "1.0.0", &file), slowly);
    assert!(!uploaded.unwrap().existing);
    drop(time);
}
