//! The mails, and the meaning of a server's answers.

use std::sync::{Arc, Mutex};

use bellwether_core::ids::{EffectId, RolloutId};
use bellwether_core::input::effect::{Act, Notify};
use bellwether_core::input::notification::{MessageKind, Mood, NotificationFacts};
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::adapters::sinks::Options as AllOptions;
use crate::ports::{OutgoingTopic, OutgoingTopics};

/// A section `[kafka]` without topics for others.
struct NoTopics;

impl OutgoingTopics for NoTopics {
    fn topic(&self, name: &str) -> Result<Box<dyn OutgoingTopic>, String> {
        Err(format!("there is no topic {name:?}"))
    }
}

fn message(text: &str) -> Message {
    Message {
        kind: MessageKind::Final,
        mood: Mood::Bad,
        title: format!("shop/web is rolled back {text}"),
        why: format!("error-rate 5 % > 1 % {text}"),
        now: text.to_owned(),
        command: Some(format!("bellwether why shop/web {text}")),
        footer: format!("web-0123456789 · policy {text}"),
    }
}

fn effect(decision: u32, message: &Message) -> (Effect, Notification) {
    let rollout = RolloutId("web-0123456789".to_owned());
    let facts = NotificationFacts::default();
    let told = Notification {
        key: rollout.clone(),
        facts,
        incident: None,
        note: None,
        message: Some(message.clone()),
        trace: None,
    };
    let sink = Sink { name: "sre".to_owned(), subscription: Subscription::Messages };
    let effect = Effect {
        id: EffectId(format!("{rollout}.d{decision}.sre")),
        rollout,
        workload: "prod/shop/Deployment/web".parse().unwrap(),
        act: Act::People(Notify { sink, notification: Box::new(told.clone()), receipt: None }),
    };
    (effect, told)
}

/// A stand-in for a mail server: its answer to a sender, and the mails that it took.
struct StandIn {
    port: u16,
    took: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    async fn start(answer: &'static str) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, took) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let taken = Arc::clone(&took);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer, Arc::clone(&taken)));
            }
        });
        StandIn { port, took }
    }

    fn sink(&self) -> Box<dyn NotificationSink> {
        let text = format!(
            "[email.sre]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"Bellwether <b@example.com>\"\n\
             to = [\"sre@example.com\", \"Ann <ann@example.com>\"]\ntimeout = \"1s\"\n",
            self.port
        );
        let options: AllOptions = toml::from_str(&text).unwrap();
        assert_eq!(options.problems(), []);
        options.email["sre"].open("sre", &Connections { topics: &NoTopics }).unwrap()
    }

    fn took(&self) -> Vec<String> {
        self.took.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, answer: &'static str, took: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut envelope = String::new();
    stream.write_all(b"220 mail.test ESMTP\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let reply = match line.get(..4).unwrap_or_default() {
            "EHLO" => "250-mail.test\r\n250 8BITMIME",
            "MAIL" if answer.is_empty() => std::future::pending().await,
            "MAIL" => answer,
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                let mut mail = envelope.clone();
                while !mail.ends_with("\r\n.\r\n") {
                    stream.read_line(&mut mail).await.ok()?;
                }
                took.lock().unwrap().push(mail);
                "250 taken"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        envelope += &line;
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
    }
}

/// Returns the value of a header that is not folded.
fn header<'a>(mail: &'a str, name: &str) -> &'a str {
    let line = mail.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name}: {mail}"))
}

#[tokio::test]
async fn a_message_is_one_mail_to_all_and_a_repetition_and_the_rollout_are_known_by_their_ids() {
    let server = StandIn::start("250 ok").await;
    let sink = server.sink();
    assert_eq!(sink.check().await.unwrap(), format!("127.0.0.1:{} answers and accepts the settings", server.port));
    for decision in [7, 7, 8] {
        let (effect, told) = effect(decision, &message("now"));
        sink.send(&effect, &told, None).await.unwrap();
    }
    let (effect, told) = effect(9, &message(""));
    sink.send(&effect, &Notification { message: None, ..told }, None).await.unwrap();
    let took = server.took();
    assert_eq!(took.len(), 3, "one without a message is none");
    for mail in &took {
        assert!(mail.contains("RCPT TO:<sre@example.com>") && mail.contains("RCPT TO:<ann@example.com>"), "{mail}");
        assert_eq!(header(mail, "From"), "Bellwether <b@example.com>");
        assert_eq!(header(mail, "Auto-Submitted"), "auto-generated");
        assert!(mail.contains("error-rate 5 % > 1 % now"), "{mail}");
    }
    let ids: Vec<&str> = took.iter().map(|mail| header(mail, "Message-ID")).collect();
    assert!(ids[0] == ids[1] && ids[0] != ids[2], "{ids:?}");
    let rollouts: Vec<&str> = took.iter().map(|mail| header(mail, "References")).collect();
    assert!(rollouts[0] == rollouts[2] && rollouts[0] != ids[0], "{rollouts:?}");
}

#[tokio::test]
async fn an_answer_says_whether_a_later_attempt_can_succeed() {
    let told = effect(1, &message("now"));
    let send = async |sink: &dyn NotificationSink| sink.send(&told.0, &told.1, None).await.unwrap_err();
    for (answer, is_later, part) in [
        ("451 mailbox busy", true, "mailbox busy"),
        ("550 no such sender", false, "no such sender"),
        ("535 wrong password", false, "wrong password"),
        ("", true, "did not answer within 1s"),
    ] {
        let server = StandIn::start(answer).await;
        let error = send(&*server.sink()).await;
        assert_eq!(matches!(error, NotificationError::Later { .. }), is_later, "{answer}: {error:?}");
        let text = error.to_string();
        assert!(text.starts_with("127.0.0.1:") && text.contains(part), "{answer}: {text}");
        assert_eq!(server.took().len(), 0);
    }
    let closed = StandIn { port: 1, took: Arc::default() };
    let error = send(&*closed.sink()).await;
    assert!(matches!(&error, NotificationError::Later { message, .. } if message.contains("refused")), "{error:?}");
}

#[test]
fn the_settings_are_checked_without_the_network() {
    let full = "host = \"h\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\n";
    for (text, key, part) in [
        ("", "host", "name the mail server"),
        ("", "from", "is no mailbox"),
        ("", "to", "1 to 100 recipients"),
        ("to = [\"nobody\"]", "to", "\"nobody\" is no mailbox"),
        ("user = \"u\"", "user", "`password-file`"),
        ("password = \"p\"", "password-file", "`user`"),
        ("user = \"u\"\npassword = \"p\"\ntls = \"none\"", "tls", "unencrypted"),
    ] {
        let text = if text.contains("to =") || text.is_empty() { text.to_owned() } else { format!("{full}{text}") };
        let options: Options = toml::from_str(&text).unwrap();
        let problems = options.problems();
        assert!(problems.iter().any(|(at, message)| *at == key && message.contains(part)), "{text}: {problems:?}");
    }
    let good: Options = toml::from_str(&format!("{full}user = \"u\"\npassword = \"p\"")).unwrap();
    assert_eq!(good.problems(), []);
}

proptest! {
    /// Lines have at most 998 bytes without their end (RFC 5322, 2.1.1), headers are ASCII (2.2), and no text adds a header.
    #[test]
    fn any_text_is_a_valid_mail(text in prop_oneof![
        ".*", "(a\r\nBcc: x@example.com|\u{0}|\u{202e}|\\.|🔥){0,40}",
        (any::<char>(), 1..6000_usize).prop_map(|(c, n)| c.to_string().repeat(n)),
    ]) {
        let options: Options = toml::from_str(
            "host = \"h\"\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\ntls = \"none\"",
        ).unwrap();
        let sink = EmailSink {
            name: "sre".to_owned(),
            server: "h:25".to_owned(),
            transport: AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("h").build(),
            from: mailbox(&options.from).unwrap(),
            to: vec![mailbox(&options.to[0]).unwrap()],
            receives: options.receives,
            timeout: options.timeout,
        };
        let message = message(&text);
        let mail = sink.mail(&effect(1, &message).0, &message).unwrap().formatted();
        for line in mail.split(|byte| *byte == b'\n') {
            prop_assert!(line.strip_suffix(b"\r").unwrap_or(line).len() <= 998);
        }
        let mail = String::from_utf8(mail).unwrap();
        let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
        prop_assert!(headers.is_ascii());
        let names: Vec<&str> = headers
            .lines()
            .filter(|line| !line.starts_with([' ', '\t']))
            .filter_map(|line| line.split(':').next())
            .collect();
        for name in &names {
            let known = ["From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted", "Content-Type",
                         "Content-Transfer-Encoding", "MIME-Version"];
            prop_assert!(known.contains(name), "{}", name);
        }
    }
}
