//! The methods that commands call.

use portico::wire::podium::v1::{
    CreateInstanceRequest, CreateInstanceResponse, CreateKeyRequest, CreateKeyResponse, DeleteInstanceRequest,
    DeleteInstanceResponse, FollowLogsRequest, FollowLogsResponse, GetInstanceRequest, GetInstanceResponse,
    ListInstancesRequest, ListInstancesResponse, ListKeysRequest, ListKeysResponse, ListLogsRequest, ListLogsResponse,
    ListMessagesRequest, ListMessagesResponse, ListPeppersRequest, ListPeppersResponse, RevokeKeyRequest,
    RevokeKeyResponse, RotatePepperRequest, RotatePepperResponse, SendMessageRequest, SendMessageResponse,
    UploadDeploymentRequest, UploadDeploymentResponse,
};

/// A request with one answer.
pub(crate) trait Call: prost::Message {
    /// The path of the method.
    const PATH: &'static str;
    /// What it answers with.
    type Answer: prost::Message + Default;
}

/// A request that comes in many messages and has one answer.
pub(crate) trait Upload: prost::Message + 'static {
    /// The path of the method.
    const PATH: &'static str;
    /// What it answers with.
    type Answer: prost::Message + Default;
}

/// A request with many answers.
pub(crate) trait Follow: prost::Message {
    /// The path of the method.
    const PATH: &'static str;
    /// What it answers with, many times.
    type Answer: prost::Message + Default;
}

macro_rules! methods {
    ($($form:ident $path:literal: $request:ty => $answer:ty;)+) => {
        $(impl $form for $request {
            const PATH: &'static str = $path;
            type Answer = $answer;
        })+

        #[cfg(test)]
        const METHODS: &[(&str, &str)] = &[$(($path, stringify!($form))),+];
    };
}

methods! {
    Call "/podium.v1.KeysService/CreateKey": CreateKeyRequest => CreateKeyResponse;
    Call "/podium.v1.KeysService/ListKeys": ListKeysRequest => ListKeysResponse;
    Call "/podium.v1.KeysService/RevokeKey": RevokeKeyRequest => RevokeKeyResponse;
    Call "/podium.v1.KeysService/ListPeppers": ListPeppersRequest => ListPeppersResponse;
    Call "/podium.v1.KeysService/RotatePepper": RotatePepperRequest => RotatePepperResponse;
    Upload "/podium.v1.DeploymentsService/UploadDeployment": UploadDeploymentRequest => UploadDeploymentResponse;
    Call "/podium.v1.InstancesService/CreateInstance": CreateInstanceRequest => CreateInstanceResponse;
    Call "/podium.v1.InstancesService/GetInstance": GetInstanceRequest => GetInstanceResponse;
    Call "/podium.v1.InstancesService/ListInstances": ListInstancesRequest => ListInstancesResponse;
    Call "/podium.v1.InstancesService/DeleteInstance": DeleteInstanceRequest => DeleteInstanceResponse;
    Call "/podium.v1.InstancesService/ListLogs": ListLogsRequest => ListLogsResponse;
    Follow "/podium.v1.InstancesService/FollowLogs": FollowLogsRequest => FollowLogsResponse;
    Call "/podium.v1.InstancesService/SendMessage": SendMessageRequest => SendMessageResponse;
    Call "/podium.v1.InstancesService/ListMessages": ListMessagesRequest => ListMessagesResponse;
}

#[cfg(test)]
mod tests {
    use portico::schema::{Schema, Shape};

    use super::METHODS;

    #[test]
    fn every_method_is_in_the_schema_with_the_same_shape() {
        let schema = Schema::read(portico::wire::SCHEMA).unwrap();
        for (path, form) in METHODS {
            let method = schema.method(path).unwrap_or_else(|| panic!("{path} is not in the schema"));
            let expected = match method.shape {
                Shape::Unary => "Call",
                Shape::ClientStream => "Upload",
                Shape::ServerStream => "Follow",
                Shape::Bidi => "none",
            };
            assert_eq!(*form, expected, "{path}");
        }
    }
}
