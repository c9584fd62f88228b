//! The users of the API server and their rights: a TokenReview for a token, and a SubjectAccessReview for a verb on
//! `rollouts.bellwether.dev`. There is no such resource; roles can name it all the same, as they do for verbs of their own.

use async_trait::async_trait;
use bellwether_core::ids::{Scope, Workload};
use bellwether_core::input::event::Failure;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use secrecy::{ExposeSecret as _, SecretString};

use super::access::ApiVerb;
use super::server::Server;
use crate::ports::{Reviews, User};

/// The group of rollouts in the rules of roles.
const GROUP: &str = "bellwether.dev";
/// The resource of rollouts in the rules of roles.
const RESOURCE: &str = "rollouts";

/// The verbs that the daemon needs for `http.authenticate`, in the whole cluster.
pub const REQUIRED: [ApiVerb; 2] =
    [("create", "authentication.k8s.io", "tokenreviews"), ("create", "authorization.k8s.io", "subjectaccessreviews")];

/// The reviews of an API server.
#[derive(Clone)]
pub struct KubernetesReviews {
    pub(super) server: Server,
    /// The audiences of tokens; empty for that of the API server.
    pub(super) audiences: Vec<String>,
}

#[async_trait]
impl Reviews for KubernetesReviews {
    async fn user(&self, token: &SecretString) -> Result<Option<User>, Failure> {
        let reviews: Api<TokenReview> = Api::all(self.server.client.clone());
        let audiences = Some(self.audiences.clone()).filter(|audiences| !audiences.is_empty());
        let spec = TokenReviewSpec { audiences, token: Some(token.expose_secret().to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.server.call("reviewing a token", reviews.create(&PostParams::default(), &review)).await?;
        let status = answer.status.unwrap_or_default();
        // An API server that does not know audiences returns none.
        let of_audience = self.audiences.is_empty()
            || status.audiences.iter().flatten().any(|audience| self.audiences.contains(audience));
        Ok(status.user.filter(|_| status.authenticated == Some(true) && of_audience).and_then(user_of))
    }

    async fn may(&self, user: &User, verb: &str, scope: &Scope) -> Result<bool, Failure> {
        let reviews: Api<SubjectAccessReview> = Api::all(self.server.client.clone());
        let review = SubjectAccessReview { spec: question(user, verb, scope), ..SubjectAccessReview::default() };
        let answer = self.server.call("reviewing a right", reviews.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

/// Returns the user; `None` without a name, or with one that could not be told from another text.
fn user_of(info: UserInfo) -> Option<User> {
    let name = info.username.filter(|name| !name.is_empty() && !name.chars().any(char::is_control))?;
    let (groups, extra) = (info.groups.unwrap_or_default(), info.extra.unwrap_or_default());
    Some(User { name, uid: info.uid, groups, extra })
}

fn question(user: &User, verb: &str, scope: &Scope) -> SubjectAccessReviewSpec {
    let (namespace, name) = match scope {
        Scope::Cluster(_) => (None, None),
        Scope::Namespace { namespace, .. } => (Some(namespace.clone()), None),
        Scope::Workload(Workload { namespace, name, .. }) => (Some(namespace.clone()), Some(name.clone())),
    };
    let attributes = ResourceAttributes {
        namespace,
        name,
        verb: Some(verb.to_owned()),
        group: Some(GROUP.to_owned()),
        resource: Some(RESOURCE.to_owned()),
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}
