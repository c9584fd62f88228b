//! Prometheus' protobuf format (delimited `io.prometheus.client.MetricFamily`), as far as counters, gauges and native
//! histograms need it. The text format has no native histograms.

/// The content type of a page.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const COUNTER: u64 = 0;
const GAUGE: u64 = 1;
const HISTOGRAM: u64 = 4;

/// An encoded message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn unsigned(mut self, field: u64, value: u64) -> Message {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn signed(self, field: u64, value: i64) -> Message {
        self.unsigned(field, ((value << 1) ^ (value >> 63)) as u64)
    }

    fn double(mut self, field: u64, value: f64) -> Message {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }
}

/// The buckets of a native histogram.
pub struct Buckets {
    /// Their exponential schema.
    pub schema: i32,
    /// Index and count of each bucket that is not empty, ascending.
    pub counts: Vec<(i32, u64)>,
}

/// A page of metric families.
#[derive(Default)]
pub struct Page(Message);

impl Page {
    /// Adds a counter with a series for each value of a label.
    pub fn counters(self, name: &str, label: &str, series: &[(&str, u64)]) -> Page {
        let value = |count: &u64| Message::default().double(1, *count as f64);
        let metrics: Vec<Message> =
            series.iter().map(|(of, count)| labelled((label, of)).message(3, &value(count))).collect();
        self.family(name, COUNTER, &metrics)
    }

    /// Adds a gauge with one series.
    pub fn gauge(self, name: &str, value: f64) -> Page {
        let metric = Message::default().message(2, &Message::default().double(1, value));
        self.family(name, GAUGE, &[metric])
    }

    /// Adds a native histogram with a series for each value of a label.
    pub fn native_histograms(self, name: &str, label: &str, series: &[(&str, Buckets)]) -> Page {
        let metrics: Vec<Message> =
            series.iter().map(|(value, buckets)| labelled((label, value)).message(7, &histogram(buckets))).collect();
        self.family(name, HISTOGRAM, &metrics)
    }

    fn family(mut self, name: &str, kind: u64, metrics: &[Message]) -> Page {
        let family = Message::default().bytes(1, name.as_bytes()).unsigned(3, kind);
        let family = metrics.iter().fold(family, |family, metric| family.message(4, metric));
        self.0.varint(family.0.len() as u64);
        self.0.0.extend(family.0);
        self
    }

    /// Returns the encoded page.
    pub fn finish(self) -> Vec<u8> {
        self.0.0
    }
}

fn labelled((name, value): (&str, &str)) -> Message {
    Message::default().message(1, &Message::default().bytes(1, name.as_bytes()).bytes(2, value.as_bytes()))
}

fn histogram(Buckets { schema, counts }: &Buckets) -> Message {
    let count = counts.iter().map(|(_, count)| count).sum();
    let mut histogram = Message::default().unsigned(1, count).double(2, count as f64).signed(5, (*schema).into());
    histogram = histogram.double(6, 2f64.powi(-128)).unsigned(7, 0);
    let (mut next, mut last) = (0, 0);
    for (index, count) in counts {
        // A span of one bucket: its distance from the end of the previous span, and its number of buckets.
        histogram = histogram.message(12, &Message::default().signed(1, (index - next).into()).unsigned(2, 1));
        histogram = histogram.signed(13, count.cast_signed() - last);
        (next, last) = (index + 1, count.cast_signed());
    }
    histogram
}
