require('assert')(require('is-number')(7));
console.log('passed');
