//! One bounded queue and the thread that empties it. Who adds an entry never waits: what
//! does not fit, comes after the end or cannot be handed on is dropped and counted.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::lock::lock;

/// What waits to be handed on.
pub(super) trait Queue: Default + Send + 'static {
    /// How long entries are gathered, so that many are handed on at once.
    const GATHER: Duration;

    /// The entries in it.
    fn count(&self) -> u64;

    /// Whether the next entry is one too many.
    fn is_full(&self) -> bool;

    /// Whether there is no need to gather more.
    fn is_a_batch(&self) -> bool;

    /// Moves what is handed on at once into `batch`, which is empty.
    fn take(&mut self, batch: &mut Self);
}

/// The other end.
pub(super) trait Output<Q>: Send + 'static {
    /// Hands everything in `batch` on and leaves it empty; or gives how many entries are lost.
    fn write(&mut self, batch: &mut Q) -> Result<(), u64>;
}

pub(super) struct Worker<Q> {
    shared: Arc<Shared<Q>>,
}

struct Shared<Q> {
    state: Mutex<State<Q>>,
    /// An entry came, or the end.
    wake: Condvar,
    /// The thread has ended.
    over: Condvar,
    dropped: IntCounter,
}

struct State<Q> {
    queue: Q,
    closed: bool,
    over: bool,
}

impl<Q: Queue> Worker<Q> {
    pub fn new(name: &str, output: impl Output<Q>, dropped: IntCounter) -> Self {
        let state = Mutex::new(State { queue: Q::default(), closed: false, over: false });
        let shared = Arc::new(Shared { state, wake: Condvar::new(), over: Condvar::new(), dropped });
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.empty_into(output)
        });
        if thread.is_err() {
            let mut state = lock(&shared.state);
            (state.closed, state.over) = (true, true); // nobody takes anything
        }
        Worker { shared }
    }

    /// Adds what `put` puts into the queue, which is one entry.
    pub fn add(&self, put: impl FnOnce(&mut Q)) {
        let mut state = lock(&self.shared.state);
        if state.closed || state.queue.is_full() {
            self.shared.dropped.inc();
            return;
        }
        let first = state.queue.count() == 0;
        put(&mut state.queue);
        drop(state);
        if first {
            self.shared.wake.notify_one();
        }
    }

    /// Hands on what waits, as long as the output takes it and no longer than `patience`, and
    /// stops. An output that is stuck is left behind with what it has.
    pub fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.shared.state);
        state.closed = true;
        self.shared.wake.notify_one();
        while !state.over {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.over.wait_timeout(state, left).map_or_else(|e| e.into_inner().0, |w| w.0);
        }
        self.shared.drop_all(&mut state);
    }
}

impl<Q: Queue> Shared<Q> {
    fn empty_into(&self, mut output: impl Output<Q>) {
        let mut batch = Q::default();
        let mut state = lock(&self.state);
        loop {
            while state.queue.count() == 0 && !state.closed {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.closed && !state.queue.is_a_batch() {
                // The end interrupts this; whoever adds an entry to others does not.
                state = self.wake.wait_timeout(state, Q::GATHER).map_or_else(|e| e.into_inner().0, |w| w.0);
            }
            if state.queue.count() == 0 {
                break; // closed
            }
            state.queue.take(&mut batch);
            drop(state);
            let lost = output.write(&mut batch).err();
            self.dropped.inc_by(lost.unwrap_or_default());
            state = lock(&self.state);
            if lost.is_some() && state.closed {
                // It would not take the rest either, and somebody waits for the end.
                self.drop_all(&mut state);
            }
        }
        state.over = true;
        self.over.notify_all();
    }

    fn drop_all(&self, state: &mut State<Q>) {
        self.dropped.inc_by(state.queue.count());
        state.queue = Q::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Numbers, of which three wait and two are handed on at once.
    #[derive(Default)]
    struct Numbers(Vec<u32>);

    impl Queue for Numbers {
        const GATHER: Duration = Duration::ZERO;

        fn count(&self) -> u64 {
            self.0.len() as u64
        }

        fn is_full(&self) -> bool {
            self.0.len() == 3
        }

        fn is_a_batch(&self) -> bool {
            self.0.len() >= 2
        }

        fn take(&mut self, batch: &mut Self) {
            batch.0.extend(self.0.drain(..self.0.len().min(2)));
        }
    }

    /// Says that it has a batch, and waits to be told whether that fails.
    struct Asking(mpsc::Sender<Vec<u32>>, mpsc::Receiver<bool>);

    impl Output<Numbers> for Asking {
        fn write(&mut self, batch: &mut Numbers) -> Result<(), u64> {
            let numbers = std::mem::take(&mut batch.0);
            let count = numbers.len() as u64;
            _ = self.0.send(numbers);
            if self.1.recv().unwrap_or(true) { Ok(()) } else { Err(count) }
        }
    }

    /// The queue, what its output has, where that is told to go on, and what was dropped.
    fn asking() -> (Worker<Numbers>, mpsc::Receiver<Vec<u32>>, mpsc::Sender<bool>, IntCounter) {
        let ((has, batches), (go_on, told)) = (mpsc::channel(), mpsc::channel());
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        (Worker::new("numbers", Asking(has, told), dropped.clone()), batches, go_on, dropped)
    }

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_does_not_fit_is_dropped_and_what_waits_at_the_end_is_handed_on() {
        let (worker, batches, go_on, dropped) = asking();
        worker.add(|queue| queue.0.push(0));
        assert_eq!(batches.recv().unwrap(), [0], "the thread is at work");
        (1..=5).for_each(|number| worker.add(|queue| queue.0.push(number)));
        assert_eq!(dropped.get(), 2, "three wait");
        (0..3).for_each(|_| go_on.send(true).unwrap());
        worker.close(LONG);
        assert_eq!(batches.try_iter().collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
        worker.add(|queue| queue.0.push(6));
        assert_eq!(dropped.get(), 3, "what comes after the end");
    }

    #[test]
    fn an_output_that_is_stuck_is_left_behind() {
        let (worker, batches, _go_on, dropped) = asking();
        worker.add(|queue| queue.0.push(0));
        batches.recv().unwrap();
        (1..=3).for_each(|number| worker.add(|queue| queue.0.push(number)));
        let begun = Instant::now();
        worker.close(SOON);
        assert!((SOON..LONG / 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(dropped.get(), 3, "what it has may still arrive");
    }

    #[test]
    fn what_an_output_refuses_is_counted_and_at_the_end_it_is_not_asked_again() {
        let (worker, batches, go_on, dropped) = asking();
        worker.add(|queue| queue.0.push(0));
        batches.recv().unwrap();
        go_on.send(false).unwrap();
        worker.add(|queue| queue.0.push(1));
        assert_eq!(batches.recv().unwrap(), [1], "the next one is tried anew");
        assert_eq!(dropped.get(), 1);
        (2..=4).for_each(|number| worker.add(|queue| queue.0.push(number)));
        let shared = Arc::clone(&worker.shared);
        let refusing = std::thread::spawn(move || {
            while !lock(&shared.state).closed {
                std::thread::yield_now();
            }
            go_on.send(false).unwrap();
        });
        worker.close(LONG);
        refusing.join().unwrap();
        assert_eq!((batches.try_iter().count(), dropped.get()), (0, 5));
    }
}
