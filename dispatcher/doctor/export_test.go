package doctor

var FindAddr = findAddr
