//! Who calls: one identity, however it was proved.
//!
//! A newcomer's usual mistake is to look at the kind of credential. By the time a `Caller` exists that question is
//! settled; ask what the caller may do, not how it proved who it is.
//!
//! *Knows:* identities, tenants, roles, permissions. *Does not know:* keys, tokens, certificates, where they came from.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name that is known to be well-formed.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                $name(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type! {
    /// The one id that every proof of an identity resolves to.
    IdentityId
}

name_type! {
    /// Whose things these are. Everything that is stored belongs to one tenant.
    TenantId
}

impl TenantId {
    /// The tenant of administrators; what it uploads is shared with every tenant.
    pub fn shared() -> TenantId {
        TenantId::new("*")
    }

    /// Whether this is the shared tenant.
    pub fn is_shared(&self) -> bool {
        &*self.0 == "*"
    }
}

/// What the caller is allowed in general. Ownership of single things is asked in the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nobody proved anything. Admitted by public methods alone.
    Anonymous,
    /// A member of one tenant.
    Tenant,
    /// An administrator of the platform.
    Admin,
}

/// How the identity was proved, for the record and for ending streams when the proof is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was proved.
    None,
    /// An API key, by its id.
    Key(Arc<str>),
}

/// One identity, however it was proved. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The identity.
    pub identity: IdentityId,
    /// Its tenant; the shared tenant for administrators.
    pub tenant: TenantId,
    /// Its role.
    pub role: Role,
    /// What it may do, as `noun:verb`. Not consulted for administrators, who may do everything.
    pub permissions: Arc<[Box<str>]>,
    /// How it was proved.
    pub proof: Proof,
}

impl Caller {
    /// A caller who proved nothing.
    pub fn anonymous() -> Arc<Caller> {
        static NOBODY: LazyLock<Arc<Caller>> = LazyLock::new(|| {
            Arc::new(Caller {
                identity: IdentityId::new("anonymous"),
                tenant: TenantId::new("anonymous"),
                role: Role::Anonymous,
                permissions: Arc::from([]),
                proof: Proof::None,
            })
        });
        Arc::clone(&NOBODY)
    }

    /// Whether the caller is an administrator.
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Whether the caller has the permission, by role or by list.
    pub fn may(&self, permission: &str) -> bool {
        match self.role {
            Role::Anonymous => false,
            Role::Admin => true,
            Role::Tenant => self.permissions.iter().any(|granted| &**granted == permission),
        }
    }

    /// Whether things of this tenant are the caller's to see and change.
    pub fn owns(&self, tenant: &TenantId) -> bool {
        match self.role {
            Role::Anonymous => false,
            Role::Admin => true,
            Role::Tenant => self.tenant == *tenant,
        }
    }

    /// The id of the key in use, if a key proved the identity.
    pub fn key_id(&self) -> Option<&str> {
        match &self.proof {
            Proof::Key(id) => Some(id),
            Proof::None => None,
        }
    }
}
