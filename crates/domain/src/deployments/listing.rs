//! Lists of what a caller may use.
//!
//! A newcomer's usual mistake is to filter a page after it was read, which makes pages of random length. A tenant's list
//! is two ordered lists, its own and the shared one, merged.
//!
//! *Knows:* visibility, pages. *Does not know:* how a list is printed.

use portico_base::{
    Context, Result, TenantId,
    page::{Page, PageRequest},
};

use super::{
    Deployments,
    record::{AGENT_TYPE, Deployment, TENANT},
};
use crate::{
    agents,
    table::{Entity, Stored, Table, place},
};

/// Which deployments to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    /// Of this agent type alone.
    pub agent_type: Option<&'a str>,
    /// The newest version of each type alone.
    pub latest: bool,
}

impl Deployments {
    /// Deployments that the caller may use, newest first.
    ///
    /// # Errors
    /// `invalid_agent_type`.
    pub async fn list(&self, cx: &Context, filter: Filter<'_>, page: &PageRequest) -> Result<Page<Deployment>> {
        let tables = &self.0;
        let Some(agent_type) = filter.agent_type else {
            if !filter.latest {
                return visible(cx, &tables.table, page).await;
            }
            let types = visible(cx, &tables.types, page).await?;
            let mut items = Vec::with_capacity(types.items.len());
            for newest in &types.items {
                items.extend(tables.table.get(&newest.latest_id()).await?.map(|stored| stored.value));
            }
            return Ok(Page { items, next: types.next });
        };
        agents::check_type(agent_type)?;
        match self.visible_type(cx, agent_type).await? {
            None => Ok(Page { items: Vec::new(), next: None }),
            Some(newest) if filter.latest => {
                let newest = tables.table.get(&newest.latest_id()).await?.map(|stored| stored.value);
                Ok(Page { items: newest.into_iter().collect(), next: None })
            }
            Some(_) => Ok(tables.table.page(Some((AGENT_TYPE, agent_type)), page).await?.map(|stored| stored.value)),
        }
    }
}

/// A page of what the caller may see.
async fn visible<T: Entity>(cx: &Context, table: &Table<T>, page: &PageRequest) -> Result<Page<T>> {
    if cx.caller.is_admin() {
        return Ok(table.page(None, page).await?.map(|stored| stored.value));
    }
    let own = table.page(Some((TENANT, cx.caller.tenant.as_str())), page).await?;
    let shared = table.page(Some((TENANT, TenantId::shared().as_str())), page).await?;
    Ok(merged(own, shared, page.limit))
}

fn merged<T: Entity>(one: Page<Stored<T>>, other: Page<Stored<T>>, limit: usize) -> Page<T> {
    let is_last = one.next.is_none() && other.next.is_none();
    let mut items: Vec<T> = one.items.into_iter().chain(other.items).map(|stored| stored.value).collect();
    items.sort_by_cached_key(|item| std::cmp::Reverse((item.sort(), item.id())));
    let more = items.len() > limit || !is_last;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(place);
    Page { items, next }
}
