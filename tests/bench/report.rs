//! Figures of several rounds, and what is printed of them.

use crate::load::Outcome;
use crate::spread::Spread;

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
    memory_mb: f64,
    nats_cpu_us: Option<f64>,
}

impl Figures {
    /// Of a load, and what the server used: processor time in seconds, also of the NATS server, and memory.
    pub(crate) fn new(outcome: &Outcome, cpu_seconds: f64, nats_cpu_seconds: Option<f64>, memory_mb: f64) -> Self {
        let per_answer = |seconds: f64| seconds * 1e6 / outcome.answers() as f64;
        Self {
            rate: outcome.rate,
            p50_ms: outcome.percentile_ms(0.5),
            p99_ms: outcome.percentile_ms(0.99),
            cpu_us: per_answer(cpu_seconds),
            memory_mb,
            nats_cpu_us: nats_cpu_seconds.map(per_answer),
        }
    }
}

/// The rounds of some subjects that were measured in turn.
pub(crate) struct Report {
    names: Vec<&'static str>,
    rounds: Vec<Vec<Figures>>,
}

impl Report {
    /// An empty report on these subjects.
    pub(crate) fn new(names: Vec<&'static str>) -> Self {
        Self { names, rounds: Vec::new() }
    }

    /// Adds a round: one run of each subject, in their order.
    pub(crate) fn add(&mut self, figures: Vec<Figures>) {
        self.rounds.push(figures);
    }

    /// Prints a table of all subjects, then the ratios of the rates of these pairs.
    pub(crate) fn print(&self, ratios: &[(usize, usize)]) {
        println!(
            "| subject | answers/s | p50 ms | p99 ms | server CPU µs/answer | NATS CPU µs/answer | peak memory MB |\n\
             |---|---|---|---|---|---|---|"
        );
        for (at, name) in self.names.iter().enumerate() {
            let figure = |pick: fn(&Figures) -> f64, digits| self.spread(digits, |round| pick(&round[at]));
            let (rate, memory) = (figure(|f| f.rate, 0), figure(|f| f.memory_mb, 1));
            let (p50, p99, cpu) = (figure(|f| f.p50_ms, 2), figure(|f| f.p99_ms, 2), figure(|f| f.cpu_us, 1));
            let has_nats = self.rounds.iter().all(|round| round[at].nats_cpu_us.is_some());
            let nats = if has_nats { figure(|f| f.nats_cpu_us.unwrap_or_default(), 1) } else { "–".to_owned() };
            println!("| {name} | {rate} | {p50} | {p99} | {cpu} | {nats} | {memory} |");
        }
        println!();
        for (of, to) in ratios {
            let ratio = self.ratio(|round| round[*of].rate / round[*to].rate);
            println!("rate of {} : rate of {} = {ratio}", self.names[*of], self.names[*to]);
        }
    }

    /// Prints the ratios of the 99th percentiles of these pairs, and of what an answer costs.
    pub(crate) fn print_p99(&self, ratios: &[(usize, usize)]) {
        println!();
        for (of, to) in ratios {
            let ratio = self.ratio(|round| round[*of].cpu_us / round[*to].cpu_us);
            println!("CPU of {} : CPU of {} = {ratio}", self.names[*of], self.names[*to]);
        }
        println!();
        for (of, to) in ratios {
            let ratio = self.ratio(|round| round[*of].p99_ms / round[*to].p99_ms);
            println!("p99 of {} : p99 of {} = {ratio}", self.names[*of], self.names[*to]);
        }
    }

    /// A ratio's median and extremes, and how sure the median is.
    fn ratio(&self, pick: impl Fn(&[Figures]) -> f64) -> String {
        Spread::of(self.rounds.iter().map(|round| pick(round))).to_sure_string(3)
    }

    fn spread(&self, digits: usize, pick: impl Fn(&[Figures]) -> f64) -> String {
        Spread::of(self.rounds.iter().map(|round| pick(round))).to_string(digits)
    }
}
