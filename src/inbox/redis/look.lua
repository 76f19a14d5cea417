-- How much there is.
return answer('=')
