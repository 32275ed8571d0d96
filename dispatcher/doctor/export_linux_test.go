package doctor

var Quote = quote
