//! Full servers, wrong passwords, forgotten scripts, huge and unreadable messages.
