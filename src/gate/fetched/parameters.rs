//! What a route says of itself that a provider signs along or that a key is bound to: topics, an audience,
//! an account. A recipe names such a value as `route:audience`; a route without it has no such recipe.

use std::collections::BTreeMap;

/// The values of a route, each with one text or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, Vec<String>>);

impl Parameters {
    pub fn set(&mut self, name: &str, values: Vec<String>) {
        self.0.insert(name.to_owned(), values);
    }

    /// What a name stands for: the values themselves (`route:NAME`), the regions that are the fourth part of
    /// an Amazon resource name (`region:NAME`), or the origins of URLs (`origin:NAME`). `None` if the route
    /// says nothing of it.
    pub fn values(&self, name: &str) -> Option<Vec<String>> {
        let (what, name) = name.split_once(':')?;
        let values = self.0.get(name).filter(|values| !values.is_empty())?;
        let mut values: Vec<String> = values.iter().filter_map(|value| derived(what, value)).collect();
        values.sort_unstable();
        values.dedup();
        Some(values)
    }

    /// The same route with those of its values only for which a name stands for one of these; `None` if there
    /// is none.
    pub fn only(&self, name: &str, these: &[String]) -> Option<Self> {
        let (what, name) = name.split_once(':')?;
        let fits = |value: &&String| derived(what, value).is_some_and(|value| these.contains(&value));
        let values: Vec<_> = self.0.get(name)?.iter().filter(fits).cloned().collect();
        let mut only = self.clone();
        only.set(name, values);
        (!only.0[name].is_empty()).then_some(only)
    }

    /// The text once for each value of the names in it, as in `https://sns.{region:topic_arns}.amazonaws.com/`;
    /// nothing if one of them has no value.
    pub fn fill(&self, template: &str) -> Vec<String> {
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((word, behind)) = after.split_once('}') else { break };
            if !is_name(word) {
                rest = behind;
                continue;
            }
            let start = template.len() - rest.len() + before.len();
            let (head, tail) = (&template[..start], &template[start + word.len() + 2..]);
            let values = self.values(word).unwrap_or_default();
            return values.iter().flat_map(|value| self.fill(&format!("{head}{value}{tail}"))).collect();
        }
        vec![template.to_owned()]
    }
}

fn derived(what: &str, value: &str) -> Option<String> {
    match what {
        "route" => Some(value.to_owned()),
        "region" => value.split(':').nth(3).map(str::to_owned),
        "origin" => origin(value),
        _ => None,
    }
}

/// Whether a word between braces names a value of the route.
pub fn is_name(word: &str) -> bool {
    ["route:", "region:", "origin:"].iter().any(|what| word.starts_with(what))
}

/// `https://host`, without what stands behind it.
fn origin(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
    Some(format!("https://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_once_for_each_value() {
        let mut route = Parameters::default();
        let arn = |region: &str, topic: &str| format!("arn:aws:sns:{region}:123456789012:{topic}");
        route.set("topic_arns", vec![arn("eu-west-1", "a"), arn("us-east-1", "b"), arn("eu-west-1", "c")]);
        route.set("api_url", vec!["https://shop.example/graphql/".to_owned()]);
        assert_eq!(
            route.fill("https://sns.{region:topic_arns}.amazonaws.com/{hex32}.pem"),
            [
                "https://sns.eu-west-1.amazonaws.com/{hex32}.pem",
                "https://sns.us-east-1.amazonaws.com/{hex32}.pem"
            ]
        );
        assert_eq!(route.fill("{origin:api_url}/jwks.json"), ["https://shop.example/jwks.json"]);
        assert_eq!(route.fill("https://a.example/{uuid}"), ["https://a.example/{uuid}"]);
        assert_eq!(route.fill("{route:audience}"), [""; 0], "what a route does not say has no value");
    }
}
