//! Whatever lies in the queues: messages come in the order in which kombu would have popped them.

use std::collections::VecDeque;

use super::{RedisFactory, STEPS};
use crate::scenarios::{BrokerFactory, Setup};
use crate::support::driver::Driver;

/// kombu's consumer: one pop at a time over all lists, priority first, the last used queue to the end.
struct Model {
    /// By queue, by step.
    lists: Vec<Vec<VecDeque<String>>>,
    cycle: Vec<usize>,
    round_robin: bool,
}

impl Model {
    fn pop(&mut self) -> Option<String> {
        for step in 0..STEPS.len() {
            for at in 0..self.cycle.len() {
                let queue = self.cycle[at];
                if let Some(id) = self.lists[queue][step].pop_front() {
                    if self.round_robin {
                        self.cycle.remove(at);
                        self.cycle.push(queue);
                    }
                    return Some(id);
                }
            }
        }
        None
    }
}

fn next(random: &mut u32) -> usize {
    *random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*random >> 16) as usize
}

#[test]
fn the_order_is_kombus() {
    let mut factory = RedisFactory::new("");
    let mut random = 20_250_607;
    for case in 0..40 {
        factory.wipe();
        let queues: Vec<String> = (0..1 + next(&mut random) % 7).map(|nth| format!("q{nth}")).collect();
        let round_robin = case % 4 != 0;
        let mut model = Model {
            lists: vec![vec![VecDeque::new(); STEPS.len()]; queues.len()],
            cycle: (0..queues.len()).collect(),
            round_robin,
        };
        let count = next(&mut random) % 120;
        for nth in 0..count {
            let (queue, step) = (next(&mut random) % queues.len(), next(&mut random) % 3);
            let id = format!("{case}-{nth}");
            factory.publish(&queues[queue], &id, STEPS[step]);
            model.lists[queue][step].push_back(id);
        }
        let names: Vec<&str> = queues.iter().map(String::as_str).collect();
        let setup = Setup { round_robin, ..Setup::new(&names, "one") };
        let mut driver = Driver::connected(factory.broker(&setup));
        let mut left = count;
        while left > 0 {
            let batch = (1 + next(&mut random) % 60).min(left);
            let expected: Vec<_> = (0..batch).filter_map(|_| model.pop()).collect();
            assert_eq!(driver.receive(batch), expected, "case {case}, {} queues", queues.len());
            left -= batch;
        }
        driver.stop();
    }
}
