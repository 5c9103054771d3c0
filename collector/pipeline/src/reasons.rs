//! Enumerations of reasons: the values of a `reason` label, each with its own counter.

macro_rules! reasons {
    ($(#[$of_type:meta])* $type:ident: $($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        $(#[$of_type])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$doc])* $name,)* }

        impl $type {
            /// All of them, in the order of their declaration.
            pub const ALL: &[$type] = &[$($type::$name,)*];

            /// The value of the `reason` label.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$name => $word,)* }
            }
        }
    };
}
pub(crate) use reasons;
