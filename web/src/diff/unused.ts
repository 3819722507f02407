/** Stands in for parts of the diff renderer that the page never loads: other highlighters and its catalogue of themes. */
export {};
