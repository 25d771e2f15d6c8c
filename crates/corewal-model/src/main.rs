//! placeholder
use corewal_model::{CONFIGURATIONS, RULES, Rules, Size, check};
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let size = if args.iter().any(|a| a == "large") { Size::Large } else { Size::Small };
    let only = args.iter().find(|a| *a != "large" && *a != "all").cloned();
    for c in CONFIGURATIONS.iter().filter(|c| only.as_ref().is_none_or(|o| o == c.name)) {
        let t = std::time::Instant::now();
        let r = check(c, size, Rules::ALL);
        println!("== {} {} states depth {} {:?}", c.name, r.states, r.depth, t.elapsed());
        if let Some(f) = r.refutation { println!("   !!!! {}", f.property); for s in f.steps { println!("      {s}"); } continue; }
        if size == Size::Large { continue; }
        for rule in c.rules {
            let t = std::time::Instant::now();
            let r = check(c, size, Rules::ALL.without(*rule));
            match r.refutation {
                Some(f) => { println!("  {:?}: {} states {:?}: {} in {}", rule, r.states, t.elapsed(), f.property, f.steps.len());
                    if args.iter().any(|a| a == "all") { for s in f.steps { println!("      {s}"); } } }
                None => println!("  {:?}: NOT REFUTED {} states {:?}", rule, r.states, t.elapsed()),
            }
        }
    }
    let _ = RULES;
}
