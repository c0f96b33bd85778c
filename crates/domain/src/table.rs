//! Typed records: each concept's face on [`Records`].
//!
//! A newcomer's usual mistake is to write a repository. An entity says its collection, id, order and facets; the table
//! does the rest for all of them.
//!
//! *Knows:* serde and the records port. *Does not know:* any entity.

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use portico_base::{
    Error, Result, Timestamp,
    page::{Page, PageRequest},
};
use portico_port::records::{Expect, Query, Record, Records, Write};
use serde::{Serialize, de::DeserializeOwned};

/// Parts a sort key from an id inside a cursor; neither contains it.
const CURSOR_SEPARATOR: char = '\u{1f}';

/// A thing that is stored.
pub trait Entity: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The collection that holds all of its kind.
    const COLLECTION: &'static str;

    /// Its id, unique in the collection.
    fn id(&self) -> String;

    /// Its place in lists. Creation time by default makes lists stable.
    fn sort(&self) -> String;

    /// What it can be listed by.
    fn facets(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// When it ceases to exist.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// A sort key that orders by time.
pub fn by_time(time: Timestamp) -> String {
    format!("{:020}", time.0.max(0))
}

/// An entity with the version that is stored.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The entity.
    pub value: T,
    /// Its version.
    pub version: u64,
}

/// All entities of one kind. Cheap to clone.
pub struct Table<T> {
    records: Arc<dyn Records>,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Table { records: Arc::clone(&self.records), kind: PhantomData }
    }
}

impl<T: Entity> Table<T> {
    /// The table in this store.
    pub fn new(records: Arc<dyn Records>) -> Table<T> {
        Table { records, kind: PhantomData }
    }

    /// The entity of this id.
    pub async fn get(&self, id: &str) -> Result<Option<Stored<T>>> {
        self.records.get(T::COLLECTION, id).await?.map(read).transpose()
    }

    /// Stores an entity that must not be there yet. Answers false when it is.
    pub async fn insert(&self, value: &T) -> Result<bool> {
        self.insert_with(value, &[]).await
    }

    /// The same together with other writes, all or none. Answers false when one of them finds what it does not expect.
    pub async fn insert_with(&self, value: &T, others: &[Write]) -> Result<bool> {
        let mut writes = vec![write(value, Expect::Absent)?];
        writes.extend_from_slice(others);
        match self.records.commit(writes).await {
            Ok(_) => Ok(true),
            Err(error) if error.reason() == portico_base::reason::CONFLICT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores an entity. Answers its new version.
    ///
    /// # Errors
    /// `conflict` when what is stored is not what is expected.
    pub async fn put(&self, value: &T, expect: Expect) -> Result<u64> {
        let versions = self.records.commit(vec![write(value, expect)?]).await?;
        Ok(versions.first().copied().unwrap_or_default())
    }

    /// Removes an entity, unless somebody changed it meanwhile, who then knows better. Answers whether it was removed.
    pub async fn remove(&self, id: &str, version: u64) -> Result<bool> {
        match self.records.commit(vec![delete::<T>(id, Expect::Version(version))]).await {
            Ok(_) => Ok(true),
            Err(error) if error.reason() == portico_base::reason::CONFLICT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A page of entities, newest (highest sort key) first, all of them or those with a facet.
    ///
    /// # Errors
    /// The store's; `internal` when one of them cannot be read.
    pub async fn page(&self, facet: Option<(&'static str, &str)>, page: &PageRequest) -> Result<Page<Stored<T>>> {
        let Page { items, next } = self.records_of(facet, page).await?;
        Ok(Page { items: items.into_iter().map(read).collect::<Result<_>>()?, next })
    }

    /// The same without those that cannot be read, which are told of in the log: for work that must not stop at one of them.
    ///
    /// # Errors
    /// The store's.
    pub async fn readable_page(
        &self,
        facet: Option<(&'static str, &str)>,
        page: &PageRequest,
    ) -> Result<Page<Stored<T>>> {
        let Page { items, next } = self.records_of(facet, page).await?;
        let readable = items.into_iter().filter_map(|record| {
            let id = record.id.clone();
            let told = |error: &Error| {
                let problem = error.report();
                tracing::error!(collection = T::COLLECTION, id, problem, "a record cannot be read and is left alone");
            };
            read(record).inspect_err(told).ok()
        });
        Ok(Page { items: readable.collect(), next })
    }

    async fn records_of(&self, facet: Option<(&'static str, &str)>, page: &PageRequest) -> Result<Page<Record>> {
        let after = page.after.as_deref().map(|after| {
            let (sort, id) = after.split_once(CURSOR_SEPARATOR).unwrap_or((after, ""));
            (sort.to_owned(), id.to_owned())
        });
        let records = self
            .records
            .list(Query {
                collection: T::COLLECTION,
                facet: facet.map(|(name, value)| (name, value.to_owned())),
                after,
                newest_first: true,
                limit: page.limit,
            })
            .await?;
        let full = records.len() >= page.limit;
        let next = records.last().filter(|_| full).map(|last| joined(&last.sort, &last.id));
        Ok(Page { items: records, next })
    }
}

/// Where to go on after this entity, as [`Page::next`] has it.
pub fn place<T: Entity>(last: &T) -> String {
    joined(&last.sort(), &last.id())
}

fn joined(sort: &str, id: &str) -> String {
    format!("{sort}{CURSOR_SEPARATOR}{id}")
}

/// The write that stores an entity, for a commit of several.
pub fn write<T: Entity>(value: &T, expect: Expect) -> Result<Write> {
    let record = Record {
        id: value.id(),
        version: 0,
        sort: value.sort(),
        facets: value.facets().into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect(),
        expires_at: value.expires_at(),
        body: serde_json::to_string(value).map_err(Error::internal)?,
    };
    Ok(Write::Put { collection: T::COLLECTION, record, expect })
}

/// The write that removes an entity, for a commit of several.
pub fn delete<T: Entity>(id: &str, expect: Expect) -> Write {
    Write::Delete { collection: T::COLLECTION, id: id.to_owned(), expect }
}

fn read<T: Entity>(record: Record) -> Result<Stored<T>> {
    let value = serde_json::from_str(&record.body).map_err(Error::internal)?;
    Ok(Stored { value, version: record.version })
}
