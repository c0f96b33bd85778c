//! `grpc.reflection`, v1 and v1alpha: the schema for tools.
//!
//! A newcomer's usual mistake is to serve descriptors through prost's types, which forget custom options. Files are
//! encoded from the pool, options included.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use futures_util::StreamExt;
use portico_base::{Code, Context, Incoming, Outgoing, Result};
use portico_schema::Schema;
use prost_reflect::{DescriptorPool, FileDescriptor};

/// Answers questions about the schema.
#[derive(Clone)]
pub struct Reflection {
    pool: DescriptorPool,
    services: BTreeSet<&'static str>,
}

/// The two versions of the protocol are the same but for their package.
macro_rules! version {
    ($version:ident) => {
        mod $version {
            use portico_wire::grpc::reflection::$version::{
                ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse, ServerReflection,
                ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };

            use super::*;

            impl ServerReflection for Reflection {
                async fn server_reflection_info(
                    &self,
                    _cx: Context,
                    requests: Incoming<ServerReflectionRequest>,
                ) -> Result<Outgoing<ServerReflectionResponse>> {
                    let reflection = self.clone();
                    Ok(Box::pin(requests.map(move |request| request.map(|request| answer(&reflection, request)))))
                }
            }

            fn answer(reflection: &Reflection, request: ServerReflectionRequest) -> ServerReflectionResponse {
                let found = match request.message_request.as_ref() {
                    Some(MessageRequest::FileByFilename(name)) => reflection.file(name).map(files),
                    Some(MessageRequest::FileContainingSymbol(symbol)) => reflection.file_of(symbol).map(files),
                    Some(MessageRequest::FileContainingExtension(extension)) => {
                        reflection.file_of_extension(&extension.containing_type, extension.extension_number).map(files)
                    }
                    Some(MessageRequest::AllExtensionNumbersOfType(message)) => {
                        reflection.extensions_of(message).map(|numbers| {
                            MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                                base_type_name: message.clone(),
                                extension_number: numbers,
                            })
                        })
                    }
                    Some(MessageRequest::ListServices(_)) => {
                        let service = reflection.services().map(|name| ServiceResponse { name }).collect();
                        Some(MessageResponse::ListServicesResponse(ListServiceResponse { service }))
                    }
                    None => None,
                };
                let message_response = Some(found.unwrap_or_else(|| {
                    MessageResponse::ErrorResponse(ErrorResponse {
                        error_code: Code::NotFound as i32,
                        error_message: "the schema has nothing of this name".to_owned(),
                    })
                }));
                ServerReflectionResponse {
                    valid_host: request.host.clone(),
                    original_request: Some(request),
                    message_response,
                }
            }

            fn files(file_descriptor_proto: Vec<Bytes>) -> MessageResponse {
                MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
            }
        }
    };
}

version!(v1);
version!(v1alpha);

impl Reflection {
    /// Answers from this schema.
    pub fn new(schema: &Schema) -> Reflection {
        let services = schema.methods().iter().map(|method| method.service).collect();
        Reflection { pool: schema.pool().clone(), services }
    }

    /// Those that are served here; the pool holds others too.
    fn services(&self) -> impl Iterator<Item = String> {
        self.services.iter().map(|service| (*service).to_owned())
    }

    fn file(&self, name: &str) -> Option<Vec<Bytes>> {
        self.pool.get_file_by_name(name).map(with_imports)
    }

    /// A symbol is a service, message, enum or extension, or a member of one, by its full name.
    fn file_of(&self, symbol: &str) -> Option<Vec<Bytes>> {
        let pool = &self.pool;
        let named = |name: &str| {
            let service = pool.get_service_by_name(name).map(|found| found.parent_file());
            service
                .or_else(|| pool.get_message_by_name(name).map(|found| found.parent_file()))
                .or_else(|| pool.get_enum_by_name(name).map(|found| found.parent_file()))
                .or_else(|| pool.get_extension_by_name(name).map(|found| found.parent_file()))
        };
        let file = named(symbol).or_else(|| {
            let (parent, member) = symbol.rsplit_once('.')?;
            has_member(pool, parent, member).then(|| named(parent)).flatten()
        });
        file.map(with_imports)
    }

    fn file_of_extension(&self, message: &str, number: i32) -> Option<Vec<Bytes>> {
        let message = self.pool.get_message_by_name(message)?;
        let number = u32::try_from(number).ok()?;
        message.get_extension(number).map(|extension| with_imports(extension.parent_file()))
    }

    fn extensions_of(&self, message: &str) -> Option<Vec<i32>> {
        let message = self.pool.get_message_by_name(message)?;
        let numbers: BTreeSet<u32> = message.extensions().map(|extension| extension.number()).collect();
        Some(numbers.into_iter().filter_map(|number| i32::try_from(number).ok()).collect())
    }
}

fn has_member(pool: &DescriptorPool, parent: &str, member: &str) -> bool {
    let method =
        pool.get_service_by_name(parent).is_some_and(|service| service.methods().any(|it| it.name() == member));
    let field = pool.get_message_by_name(parent).is_some_and(|message| {
        message.get_field_by_name(member).is_some() || message.oneofs().any(|oneof| oneof.name() == member)
    });
    let value = pool.get_enum_by_name(parent).is_some_and(|it| it.get_value_by_name(member).is_some());
    method || field || value
}

/// The file, then everything that it imports, each once.
fn with_imports(file: FileDescriptor) -> Vec<Bytes> {
    let (mut seen, mut queue, mut encoded) = (HashSet::new(), vec![file], Vec::new());
    while let Some(file) = queue.pop() {
        if seen.insert(file.name().to_owned()) {
            encoded.push(file.encode_to_vec().into());
            queue.extend(file.dependencies());
        }
    }
    encoded
}
