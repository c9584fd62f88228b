//! E-mail, by SMTP: one message to all recipients.
//!
//! A message is sent at least once. A repetition has the same Message-ID, by which mailboxes know it, and all messages of a rollout are
//! one conversation, by the References to the rollout (RFC 5322, 3.6.4). They are marked as automatic, so that no absence
//! answers them (RFC 3834, 5).
//!
//! A server's answer of 4yz means that it may take the message later, and one of 5yz that it will not (RFC 5321, 4.2.1).

use std::path::PathBuf;

use async_trait::async_trait;
use bellwether_core::ids::digest;
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Message, Notification, Sink, Subscription};
use bellwether_core::time::Span;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::text::{fitted, plain, utf16};
use super::{Audience, Connections, SinkError, SinkOptions, mark, required};
use crate::ports::{NotificationError, NotificationSink};
use crate::secret::Secret;

/// The longest subject in UTF-16 units. A client shows about as many.
const MAX_SUBJECT: usize = 200;
/// The longest paragraph of the text in UTF-16 units.
const MAX_PARAGRAPH: usize = 4000;
/// The longest part of a server's answer that an error message shows, in UTF-16 units.
const MAX_SHOWN: usize = 200;
/// The most recipients. RFC 5321, 4.5.3.1.8 has every server take 100.
const MAX_RECIPIENTS: usize = 100;

/// The settings of a mail server and of the messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The server's host name, which its certificate has to name.
    pub host: String,
    /// The port; `None` for the usual one of [`tls`](Options::tls).
    pub port: Option<u16>,
    /// The encryption of the connection.
    pub tls: MailEncryption,
    /// The file with the certificates (PEM) that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The user; `None` for a server that takes messages without authentication.
    pub user: Option<String>,
    /// The file with the user's password.
    pub password_file: Option<PathBuf>,
    /// The password itself. Only the environment may set it; it overrides the file.
    pub password: Option<Secret>,
    /// The sender, as an address with or without a name.
    pub from: String,
    /// The recipients, as addresses with or without a name.
    pub to: Vec<String>,
    /// The messages that the recipients receive.
    pub receives: Audience,
    /// The time for a delivery, from the connection to the server's answer.
    pub timeout: Span,
}

/// The encryption of the connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailEncryption {
    /// The connection begins in the clear, and is encrypted before anything is sent (port 587).
    #[default]
    Starttls,
    /// The connection is encrypted from its beginning (port 465).
    Tls,
    /// The connection is not encrypted (port 25).
    None,
}

impl MailEncryption {
    fn port(self) -> u16 {
        match self {
            MailEncryption::Starttls => 587,
            MailEncryption::Tls => 465,
            MailEncryption::None => 25,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            host: String::new(),
            port: None,
            tls: MailEncryption::default(),
            ca_file: None,
            user: None,
            password_file: None,
            password: None,
            from: String::new(),
            to: Vec::new(),
            receives: Audience::default(),
            timeout: Span::from_secs(30),
        }
    }
}

impl SinkOptions for Options {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.host.is_empty() {
            problems.push(("host", "name the mail server, as in \"smtp.example.com\"".to_owned()));
        }
        problems.extend(mailbox(&self.from).err().map(|message| ("from", message)));
        problems.extend(self.to.iter().filter_map(|to| mailbox(to).err()).map(|message| ("to", message)));
        if self.to.is_empty() || self.to.len() > MAX_RECIPIENTS {
            problems.push(("to", format!("name 1 to {MAX_RECIPIENTS} recipients, as in [\"sre@example.com\"]")));
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        match (&self.user, has_password) {
            (Some(_), false) => {
                problems.push(("user", "a user needs a password; name its file in `password-file`".to_owned()));
            }
            (None, true) => problems.push(("password-file", "a password needs a user; name it in `user`".to_owned())),
            (Some(_), true) if self.tls == MailEncryption::None => {
                let message = "the password would cross the network unencrypted; use \"starttls\" or \"tls\"";
                problems.push(("tls", message.to_owned()));
            }
            _ => {}
        }
        problems
    }

    fn open(&self, name: &str, _: &Connections<'_>) -> Result<Box<dyn NotificationSink>, SinkError> {
        let from = mailbox(&self.from).map_err(SinkError::Unusable)?;
        let to = self.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>().map_err(SinkError::Unusable)?;
        let port = self.port.unwrap_or(self.tls.port());
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host).port(port).tls(self.encryption()?);
        if let Some(user) = &self.user {
            let password = required(self.password.as_ref(), self.password_file.as_deref(), "password-file")?;
            transport = transport.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
        }
        Ok(Box::new(EmailSink {
            name: name.to_owned(),
            server: format!("{}:{port}", self.host),
            transport: transport.build(),
            from,
            to,
            receives: self.receives,
            timeout: self.timeout,
        }))
    }
}

impl Options {
    /// Returns the encryption with the certificates that are trusted.
    fn encryption(&self) -> Result<Tls, SinkError> {
        let unusable = |problem: &dyn std::fmt::Display| SinkError::Unusable(format!("ca-file: {problem}"));
        let mut parameters = TlsParameters::builder(self.host.clone());
        if let Some(file) = &self.ca_file {
            let pem = std::fs::read(file).map_err(|error| unusable(&format!("{}: {error}", file.display())))?;
            parameters = parameters.certificate_store(CertificateStore::None);
            parameters =
                parameters.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| unusable(&error))?);
        }
        let parameters = || parameters.build().map_err(|error| SinkError::Client(error.to_string()));
        Ok(match self.tls {
            MailEncryption::Starttls => Tls::Required(parameters()?),
            MailEncryption::Tls => Tls::Wrapper(parameters()?),
            MailEncryption::None => Tls::None,
        })
    }
}

/// Parses an address with or without a name.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse()
        .map_err(|error| format!("{text:?} is no mailbox such as \"Bellwether <bellwether@example.com>\": {error}"))
}

/// A mail server, with the sender and the recipients of its messages.
struct EmailSink {
    name: String,
    /// The server, as messages name it.
    server: String,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    receives: Audience,
    timeout: Span,
}

impl EmailSink {
    /// Waits for the server, but no longer than the timeout: the client waits without a limit for the answer to its last words.
    async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, NotificationError> {
        match tokio::time::timeout(self.timeout.to_std(), question).await {
            Ok(answer) => answer.map_err(|error| self.error(&error)),
            Err(_) => {
                let message = format!("{} did not answer within {}", self.server, self.timeout);
                Err(NotificationError::Later { after: None, message })
            }
        }
    }

    /// Returns the mail of a message.
    ///
    /// # Errors
    /// The mail can't be written, which the checks of the settings exclude.
    fn mail(&self, effect: &Effect, message: &Message) -> Result<lettre::Message, lettre::error::Error> {
        let Message { kind: _, mood, title, why, now, command, footer } = message;
        let fitted = |text: &str, max| fitted(text, max, utf16, plain);
        let id = |text: &str| format!("<{}@bellwether>", &digest(&[&self.name, text])[..32]);
        let next = command.as_ref().map(|command| format!("Next:\n    {}\n\n", fitted(command, MAX_PARAGRAPH)));
        let text = format!(
            "{}\n\n{}\n\nNow: {}\n\n{}-- \n{}/{} · {} · {}\n",
            fitted(title, MAX_PARAGRAPH),
            fitted(why, MAX_PARAGRAPH),
            fitted(now, MAX_PARAGRAPH),
            next.unwrap_or_default(),
            effect.workload.cluster,
            effect.workload.namespace,
            fitted(footer, MAX_PARAGRAPH),
            effect.id,
        );
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mail = lettre::Message::builder()
            .from(self.from.clone())
            .message_id(Some(id(&effect.id.to_string())))
            .references(id(&effect.rollout.to_string()))
            .subject(fitted(&format!("{} {title}", mark(*mood)), MAX_SUBJECT))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN);
        self.to.iter().fold(mail, |mail, to| mail.to(to.clone())).body(text)
    }

    /// Returns the meaning of an error of the server or of the connection to it.
    fn error(&self, error: &lettre::transport::smtp::Error) -> NotificationError {
        let message = format!("{}: {}", self.server, fitted(&error.to_string(), MAX_SHOWN, utf16, plain));
        if error.is_permanent() {
            NotificationError::Refused(message)
        } else {
            NotificationError::Later { after: None, message }
        }
    }
}

#[async_trait]
impl NotificationSink for EmailSink {
    fn sink(&self) -> Sink {
        Sink { name: self.name.clone(), subscription: Subscription::from(self.receives) }
    }

    async fn send(
        &self,
        effect: &Effect,
        notification: &Notification,
        _: Option<&str>,
    ) -> Result<Option<String>, NotificationError> {
        let Some(message) = &notification.message else { return Ok(None) };
        let mail = self.mail(effect, message).map_err(|error| NotificationError::Refused(error.to_string()))?;
        self.answer(self.transport.send(mail)).await.map(|_| None)
    }

    async fn check(&self) -> Result<String, NotificationError> {
        if self.answer(self.transport.test_connection()).await? {
            Ok(format!("{} answers and accepts the settings", self.server))
        } else {
            let message = format!("{} answers, and is not ready to take a message", self.server);
            Err(NotificationError::Later { after: None, message })
        }
    }
}

#[cfg(test)]
mod tests;
