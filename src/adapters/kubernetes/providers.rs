//! The declaration of a port's providers: the list of them, and the lookup by the core's name.

/// Declares a list of providers of a port and the lookup by its key, an enum of the core. The lookup is a `match`, so a
/// variant without a provider does not compile.
macro_rules! providers {
    ($list:ident, $key:ident => $port:ident { $($variant:ident: $provider:path,)+ }) => {
        /// All providers, in the order of their declaration.
        pub const $list: &[&dyn $port] = &[$(&$provider),+];

        /// Returns the provider of `key`.
        pub fn provider(key: $key) -> &'static dyn $port {
            match key {
                $($key::$variant => &$provider,)+
            }
        }
    };
}

pub(super) use providers;
