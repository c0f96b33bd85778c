//! Certificates that lie in files, and are read again when these change.
//!
//! A newcomer's usual mistake is to look at the times of files. Mounted secrets change by links that keep them; contents are
//! compared.
//!
//! *Knows:* files, when to look at them. *Does not know:* what certificates are for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::base::Result;

/// How often files are looked at: often enough for whoever waits for a renewal, cheap enough not to be noticed.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What has been made ready, to be called once everything else is.
pub(in crate::gateway) type Switch = Box<dyn FnOnce() + Send>;

/// Who proves itself by certificates.
pub(in crate::gateway) trait Certified: Clone + Send + 'static {
    /// Where they lie.
    type Files: Clone + Send + 'static;
    /// What is in the files.
    type Papers: PartialEq + Send + 'static;
    /// What the log calls them.
    const WHAT: &'static str;

    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read.
    fn read(files: &Self::Files) -> Result<Self::Papers>;

    /// Makes ready to use these.
    ///
    /// # Errors
    /// When they cannot be used; nothing changes then.
    fn prepare(&self, papers: &Self::Papers) -> Result<Switch>;
}

/// Who proves itself by certificates in files. Clones share it.
#[derive(Clone)]
pub(in crate::gateway) struct Watched<C: Certified> {
    certified: C,
    seen: Arc<Mutex<Seen<C>>>,
}

struct Seen<C: Certified> {
    files: C::Files,
    in_use: C::Papers,
    /// Why what was found since is of no use.
    refused: Option<String>,
}

impl<C: Certified> Watched<C> {
    /// These papers, which were read from the files, are in use.
    pub(in crate::gateway) fn new(certified: C, files: C::Files, in_use: C::Papers) -> Watched<C> {
        Watched { certified, seen: Arc::new(Mutex::new(Seen { files, in_use, refused: None })) }
    }

    /// Makes ready to use what is in these files, and to look at them from then on.
    ///
    /// # Errors
    /// When that cannot be used; nothing changes then.
    pub(in crate::gateway) fn ready(&self, files: &C::Files) -> Result<Switch> {
        let (papers, switch) = self.newer(files, &locked(&self.seen).in_use)?;
        let (seen, files) = (Arc::clone(&self.seen), files.clone());
        Ok(Box::new(move || {
            let mut seen = locked(&seen);
            if let Some(switch) = switch {
                switch();
            }
            *seen = Seen { files, in_use: papers, refused: None };
        }))
    }

    /// Looks at the files for as long as it runs, and takes over what is new in them.
    pub(in crate::gateway) async fn watch(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    /// What cannot be used is said once.
    fn look(&self) {
        let mut seen = locked(&self.seen);
        match self.newer(&seen.files, &seen.in_use) {
            Ok((papers, switch)) => {
                if let Some(switch) = switch {
                    switch();
                    tracing::info!("the files of {} have changed and are in use", C::WHAT);
                }
                (seen.in_use, seen.refused) = (papers, None);
            }
            Err(error) => {
                let why = error.report();
                if seen.refused.as_ref() != Some(&why) {
                    tracing::error!(
                        error = why,
                        "the files of {} cannot be used; what was in them stays in use",
                        C::WHAT
                    );
                }
                seen.refused = Some(why);
            }
        }
    }

    /// What is in these files, and how to begin to use it; it stays as it is where it is in use already, so that nobody dials
    /// anew for a changed limit.
    fn newer(&self, files: &C::Files, in_use: &C::Papers) -> Result<(C::Papers, Option<Switch>)> {
        let papers = C::read(files)?;
        let switch = if papers == *in_use { None } else { Some(self.certified.prepare(&papers)?) };
        Ok((papers, switch))
    }
}

/// What this lock guards is whole after every statement, so a poisoned lock is still good.
fn locked<C: Certified>(seen: &Mutex<Seen<C>>) -> MutexGuard<'_, Seen<C>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
