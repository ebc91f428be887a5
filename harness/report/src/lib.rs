//! Tables, plots, Markdown and HTML.
