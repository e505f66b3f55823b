//! Objects: whole byte strings under names, in a folder or in a store of a cloud.
//!
//! Source: crate object_store; conditional writes as S3, GCS and Azure have them. In: names, bytes.
//! Out: the same bytes, or who was first.
//! Holds: an object is there whole or not at all; of several that create one name at once, one
//! does; an object that was created in a folder is durable; no credential stands in an error.
//! Elsewhere: what the objects hold (`node::archive`), HTTP and TLS (`transport`).

mod transport;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, RetryConfig};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use self::transport::Transport;

/// How often a request is tried again.
const RETRIES: usize = 5;
/// How long a request is tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one act may take, tries counted in; a stalled transfer is given up.
const ACT_TIMEOUT: Duration = Duration::from_secs(600);

/// What is done with the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// They are read; a folder must be there.
    Read,
    /// They are written too; a folder is made.
    Write,
}

/// A place that keeps objects.
///
/// Acts block, so it is for threads that no runtime needs.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// What stands before every name.
    prefix: Key,
    runtime: Runtime,
}

/// An object as a listing names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// Why objects cannot be read or written. An object that was to be created is there whole or not
/// at all.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The address is none; the operator's fault.
    #[error("'{address}' is no address of an archive: {what}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong.
        what: String,
    },
    /// The folder cannot be used.
    #[error("{path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The object is not there.
    #[error("{name} is not there")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The object is longer than any of its kind; nothing of it was read.
    #[error("{name} has {got} bytes, at most {most} are allowed")]
    TooLong {
        /// Its name.
        name: String,
        /// Its length.
        got: u64,
        /// How long it may be.
        most: u64,
    },
    /// The store failed, or refused.
    #[error("{act} {name}: {what}")]
    Failed {
        /// What was tried.
        act: &'static str,
        /// The object or the prefix.
        name: String,
        /// What the store said.
        what: String,
    },
}

impl Objects {
    /// The place at `address`: a folder, as a path or `file:///…`, or `s3://bucket/prefix`,
    /// `gs://bucket/prefix`, `az://container/prefix` with credentials from the environment.
    ///
    /// Errors: [`ObjectsError::Address`], [`ObjectsError::Folder`].
    pub fn open(address: &str, access: Access) -> Result<Self, ObjectsError> {
        let wrong = |what: String| ObjectsError::Address {
            address: without_secrets(address),
            what,
        };
        let Some((scheme, rest)) = address.split_once("://") else {
            return Self::folder(Path::new(address), access);
        };
        let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let store: Result<Arc<dyn ObjectStore>, Error> = match scheme {
            "file" if rest.starts_with('/') => return Self::folder(Path::new(rest), access),
            "s3" | "s3a" => AmazonS3Builder::from_env()
                .with_url(address)
                .with_retry(retry)
                .with_http_connector(Transport)
                .build()
                .map(|store| Arc::new(store) as _),
            "gs" => GoogleCloudStorageBuilder::from_env()
                .with_url(address)
                .with_retry(retry)
                .with_http_connector(Transport)
                .build()
                .map(|store| Arc::new(store) as _),
            "az" | "azure" | "abfs" | "abfss" => MicrosoftAzureBuilder::from_env()
                .with_url(address)
                .with_retry(retry)
                .with_http_connector(Transport)
                .build()
                .map(|store| Arc::new(store) as _),
            _ => {
                let known = "a folder, file:///…, s3://…, gs://… and az://… are known";
                return Err(wrong(known.into()));
            }
        };
        let prefix = Key::parse(prefix).map_err(|error| wrong(error.to_string()))?;
        Self::of(store.map_err(|error| wrong(told(&error)))?, prefix)
    }

    fn folder(path: &Path, access: Access) -> Result<Self, ObjectsError> {
        let failed = |source| ObjectsError::Folder {
            path: path.into(),
            source,
        };
        if access == Access::Write {
            std::fs::create_dir_all(path).map_err(failed)?;
        }
        let is_folder = std::fs::metadata(path).map_err(failed)?.is_dir();
        if !is_folder {
            return Err(failed(std::io::ErrorKind::NotADirectory.into()));
        }
        let store = LocalFileSystem::new_with_prefix(path);
        let store = store.map_err(|error| failed(std::io::Error::other(error)))?;
        Self::of(Arc::new(store.with_fsync(true)), Key::default())
    }

    fn of(store: Arc<dyn ObjectStore>, prefix: Key) -> Result<Self, ObjectsError> {
        let built = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = built.map_err(|source| ObjectsError::Failed {
            act: "start",
            name: "a runtime".into(),
            what: source.to_string(),
        })?;
        Ok(Self {
            store,
            prefix,
            runtime,
        })
    }

    /// Several doors to one place in memory.
    #[cfg(test)]
    pub(crate) fn in_memory(doors: usize) -> Vec<Self> {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let door = |_| Self::of(Arc::clone(&store), Key::default()).expect("a runtime");
        (0..doors).map(door).collect()
    }

    /// What lies in `folder` and below it, by name.
    ///
    /// Errors: [`ObjectsError::Failed`].
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectsError> {
        let prefix = self.key(folder)?;
        let whole = self.prefix.as_ref();
        let found = self.act("list", folder, async {
            let listed = self.store.list(Some(&prefix));
            listed
                .map_ok(|meta| {
                    let name = meta.location.as_ref();
                    let name = name.strip_prefix(whole).unwrap_or(name);
                    Listed {
                        name: name.trim_start_matches('/').to_owned(),
                        bytes: meta.size,
                    }
                })
                .try_collect::<Vec<Listed>>()
                .await
        });
        let mut found = match found {
            Err(ObjectsError::Missing { .. }) => Vec::new(),
            other => other?,
        };
        found.sort_unstable();
        Ok(found)
    }

    /// The object `name`, of at most `most` bytes.
    ///
    /// Errors: [`ObjectsError::Missing`], [`ObjectsError::TooLong`], [`ObjectsError::Failed`].
    pub fn get(&self, name: &str, most: u64) -> Result<Bytes, ObjectsError> {
        let key = self.key(name)?;
        let got = self.act("read", name, async {
            let found = self.store.get(&key).await?;
            match found.meta.size {
                size if size > most => Ok(Err(size)),
                _ => found.bytes().await.map(Ok),
            }
        })?;
        let too_long = |got| ObjectsError::TooLong {
            name: name.into(),
            got,
            most,
        };
        let bytes = got.map_err(too_long)?;
        match bytes.len() as u64 > most {
            true => Err(too_long(bytes.len() as u64)),
            false => Ok(bytes),
        }
    }

    /// The first `bytes` bytes of the object `name`, fewer where it is shorter.
    ///
    /// Errors: [`ObjectsError::Missing`], [`ObjectsError::Failed`].
    pub fn beginning(&self, name: &str, bytes: u64) -> Result<Bytes, ObjectsError> {
        let key = self.key(name)?;
        self.act("read", name, async {
            let size = self.store.head(&key).await?.size;
            match size.min(bytes) {
                0 => Ok(Bytes::new()),
                most => self.store.get_range(&key, 0..most).await,
            }
        })
    }

    /// Makes the object `name`; false where there is one, which stays as it is.
    ///
    /// Errors: [`ObjectsError::Failed`].
    pub fn create(&self, name: &str, bytes: Bytes) -> Result<bool, ObjectsError> {
        let key = self.key(name)?;
        self.act("create", name, async {
            let mode = PutMode::Create.into();
            match self.store.put_opts(&key, bytes.into(), mode).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Makes the object `name`, in the place of one that is there.
    ///
    /// Errors: [`ObjectsError::Failed`].
    pub fn replace(&self, name: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        let key = self.key(name)?;
        self.act("write", name, async {
            self.store.put(&key, bytes.into()).await.map(drop)
        })
    }

    fn key(&self, name: &str) -> Result<Key, ObjectsError> {
        let name = Key::parse(name).map_err(|error| ObjectsError::Failed {
            act: "name",
            name: name.into(),
            what: told(&error),
        })?;
        Ok(self.prefix.parts().chain(name.parts()).collect())
    }

    fn act<T>(
        &self,
        act: &'static str,
        name: &str,
        doing: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, ObjectsError> {
        let failed = |what: String| ObjectsError::Failed {
            act,
            name: name.into(),
            what,
        };
        match self
            .runtime
            .block_on(async { timeout(ACT_TIMEOUT, doing).await })
        {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Error::NotFound { .. })) => Err(ObjectsError::Missing { name: name.into() }),
            Ok(Err(error)) => Err(failed(told(&error))),
            Err(_) => Err(failed(format!("no end after {} s", ACT_TIMEOUT.as_secs()))),
        }
    }
}

/// What an error says, with its causes, on one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let what = error.to_string();
        if !told.contains(&what) {
            told = format!("{told}: {what}");
        }
        cause = error.source();
    }
    told.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The address without what stands before an `@` or behind a `?`, where people put passwords.
pub fn without_secrets(address: &str) -> String {
    let address = address.split_once('?').map_or(address, |(plain, _)| plain);
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match host.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("{scheme}://…@{host}{path}"),
        Some(_) | None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests;
