<?php
// Tells what PHP made of a request. The script's own name is the handler's.
header('Content-Type: text/plain');
$handler = basename(__FILE__, '.php');
echo 'handler=', $handler === 'index' ? basename(__DIR__) : $handler, "\n";
ksort($_SERVER);
foreach ($_SERVER as $name => $value) {
    echo $name, '=', json_encode($value, JSON_INVALID_UTF8_SUBSTITUTE), "\n";
}
